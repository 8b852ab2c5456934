// Starts and stops a recording by the types that openapi-typescript makes of /openapi.json.
import createClient from "openapi-fetch";
import type { paths } from "./farm.js";

const { BASE_URL, KEY } = process.env;
if (!BASE_URL || !KEY) throw new Error("BASE_URL and KEY are missing");
const client = createClient<paths>({ baseUrl: BASE_URL, headers: { Authorization: `Bearer ${KEY}` } });

const { data, error } = await client.POST("/v2/recordings", {
  body: { meeting_id: "typed", video_config: { width: 320, height: 180 } },
});
if (!data) throw new Error(JSON.stringify(error));
await client.PUT("/v2/recordings/{recording_id}", {
  params: { path: { recording_id: data.data.id } },
  body: { action: "stop" },
});
const refused = await client.POST("/v2/recordings", { body: { meeting_id: "typed", max_seconds: 0 } });
console.log(JSON.stringify([data.data.status, data.data.meeting_id, refused.error?.error.message]));
