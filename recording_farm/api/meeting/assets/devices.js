// Sentences about cameras and microphones that cannot be used.

const THINGS = { video: "camera", audio: "microphone" };

// `errors`: those of getUserMedia, { audio, video } with null for a device that works. Returns "" when both do.
export function deviceText(errors) {
  const failed = Object.keys(THINGS).filter((kind) => errors[kind]);
  const names = [...new Set(failed.map((kind) => errors[kind].name))];
  if (failed.length === 2 && names.length === 1) {
    return sentence(names[0], "camera or microphone", errors.video);
  }
  return failed.map((kind) => sentence(errors[kind].name, THINGS[kind], errors[kind])).join(" ");
}

function sentence(name, thing, error) {
  return (
    {
      NotAllowedError: `The browser blocks the ${thing}. Allow it in the settings of this site.`,
      NotFoundError: `No ${thing} found.`,
      NotReadableError: `Another program is using the ${thing}.`,
      InsecureError: `Browsers allow a ${thing} only on pages with HTTPS or on localhost.`,
    }[name] ?? `The ${thing} does not work: ${error.message}`
  );
}
