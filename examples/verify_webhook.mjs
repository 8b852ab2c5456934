// Receives webhooks and verifies their RSA signature, as with RealtimeKit. Node 20, no packages.
//
//     API_URL=http://localhost:8000 node verify_webhook.mjs [PORT]
import { createServer } from "node:http";
import { verify } from "node:crypto";
import { buffer } from "node:stream/consumers";

const farm = process.env.API_URL ?? "http://localhost:8000";
const keys = await (await fetch(`${farm}/.well-known/webhooks.json`)).json();
const publicKey = keys.data.publicKey;

createServer(async (request, response) => {
  const body = await buffer(request); // the raw body, before it is parsed
  const signature = Buffer.from(request.headers["rtk-signature"] ?? "", "base64");
  const isGood = verify("RSA-SHA256", body, publicKey, signature);
  if (isGood) {
    const { recording } = JSON.parse(body);
    console.log(recording.id, recording.status);
  }
  response.writeHead(isGood ? 200 : 401).end();
}).listen(Number(process.argv[2] ?? 9000), "127.0.0.1");
