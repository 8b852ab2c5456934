"""A page that does what one with the recording SDK of Dyte and RealtimeKit does."""

SDK_PAGE = """<!doctype html><title>SDK</title><script>
window.heard = [];
const name = new URLSearchParams(location.search).get("name") ?? "Dyte";
const small = name[0].toLowerCase() + name.slice(1);
window[`trigger${name}Recording`] = true;
const socket = new WebSocket("ws://localhost:8080/ws");
socket.binaryType = "arraybuffer";
socket.onmessage = ({data}) => { heard.push(data); if (data === "2") socket.send("3"); };
socket.onopen = () => {
  window[`${small}RecordingSdk`] = true;
  window[`${small}Recording`] = {isMeetingJoined: () => true};
  setTimeout(() => socket.send(JSON.stringify({type: "StartRecording"})), 2500);
};
</script>"""
"""As its documentation tells: it connects, answers "2" with "3", and says that it begins."""
