"""Live outputs of a running recording: RTMP, SRT, HLS and the preview."""
