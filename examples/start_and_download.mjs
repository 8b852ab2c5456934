// Records a meeting for some seconds and downloads the file. Node 20, no packages.
//
//     API_KEY=default:KEY node start_and_download.mjs [MEETING [SECONDS [FILE]]]
import { writeFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

const farm = process.env.API_URL ?? "http://localhost:8000";
const [meetingId = "demo", seconds = "10", file = "demo.mp4"] = process.argv.slice(2);

async function call(method, path, body) {
  const answer = await fetch(farm + path, {
    method,
    body: body && JSON.stringify(body),
    headers: { Authorization: `Basic ${btoa(process.env.API_KEY)}` },
  });
  const { data, error } = await answer.json();
  if (error) throw new Error(`${error.type}: ${error.message}`);
  return data;
}

const wanted = { meeting_id: meetingId, max_seconds: Number(seconds) };
let recording = await call("POST", "/v2/recordings", wanted);
while (!["UPLOADED", "ERRORED"].includes(recording.status)) {
  await setTimeout(1000); // a webhook or GET /v2/events tells you sooner
  recording = await call("GET", `/v2/recordings/${recording.id}`);
}
if (recording.status === "ERRORED") throw new Error(`${recording.error.code}: ${recording.error.message}`);
const download = await fetch(recording.download_url); // the link needs no key
await writeFile(file, Buffer.from(await download.arrayBuffer()));
console.log(`${file}: ${recording.recording_duration} s, ${recording.file_size} bytes`);
