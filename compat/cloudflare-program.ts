// Makes a recording with Cloudflare's SDK; prints every answer, under the name of its type.
import Cloudflare from "cloudflare";
import type { Active, Listed, One, Ordered, Started } from "./cloudflare-types.js";

const { BASE_URL, KEY } = process.env;
if (!BASE_URL || !KEY) throw new Error("BASE_URL and KEY are missing");
const account = { account_id: "0123456789abcdef0123456789abcdef", app_id: "app" };
const { recordings } = new Cloudflare({ apiToken: KEY, baseURL: BASE_URL, maxRetries: 0 }).realtimeKit;

const started: Started = await recordings.startRecordings("app", {
  account_id: account.account_id,
  meeting_id: "typescript",
  max_seconds: 60,
  video_config: { codec: "H264", width: 320, height: 180, export_file: true },
  realtimekit_bucket_config: { enabled: true },
});
const id: string = started.data?.id ?? "";
const ones: One[] = [];

async function until(status: "RECORDING" | "UPLOADED"): Promise<void> {
  const deadline = Date.now() + 90_000;
  for (;;) {
    const one: One = await recordings.getOneRecording(id, account);
    ones.push(one);
    if (one.data?.status === status) return;
    if (one.data?.status === "ERRORED" || Date.now() > deadline) throw new Error(JSON.stringify(one));
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

const order = (action: "pause" | "resume" | "stop"): Promise<Ordered> =>
  recordings.pauseResumeStopRecording(id, { ...account, action });

await until("RECORDING");
const active: Active = await recordings.getActiveRecordings("typescript", account);
const ordered: Ordered[] = [await order("pause"), await order("resume"), await order("stop")];
await until("UPLOADED");
const listed: Listed = await recordings.getRecordings("app", {
  account_id: account.account_id,
  meeting_id: "typescript",
  status: ["UPLOADED", "RECORDING"],
  sort_order: "DESC",
});
const seconds: number | undefined = ones.at(-1)?.data?.recording_duration;
if (seconds === undefined) throw new Error("recording_duration is missing");

console.log(
  JSON.stringify({ Started: [started], One: ones, Active: [active], Ordered: ordered, Listed: [listed] }),
);
