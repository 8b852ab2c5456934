// The types of the answers, for a JSON Schema of each: what their compiler believes is what is sent.
import type { Recordings } from "cloudflare/resources/realtime-kit/recordings";

export type Started = Recordings.RecordingStartRecordingsResponse;
export type Ordered = Recordings.RecordingPauseResumeStopRecordingResponse;
export type One = Recordings.RecordingGetOneRecordingResponse;
export type Active = Recordings.RecordingGetActiveRecordingsResponse;
export type Listed = Recordings.RecordingGetRecordingsResponse;
