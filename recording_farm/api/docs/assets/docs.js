// Shows openapi.json with Swagger UI, which the package flask-swagger-ui brings.

const CLOUDFLARE = "/client/v4/";
// The farm's address as this browser has it, which need not be its public one.
const farm = new URL(".", location.href).href.replace(/\/$/, "");

async function load() {
  const answer = await fetch("openapi.json");
  const { paths, servers, ...rest } = await answer.json();
  return {
    ...rest,
    servers: [{ ...servers[0], url: farm }],
    // The same operations a second time, by other paths.
    paths: Object.fromEntries(Object.entries(paths).filter(([path]) => !path.startsWith(CLOUDFLARE))),
  };
}

// What is tried goes out with the key that was given under "Authorize" and with nothing else. A session of the
// portal stays out of it, and so does the browser's own question for a password.
function withoutCookies(request) {
  request.credentials = "omit";
  return request;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followScheme);
followScheme();

SwaggerUIBundle({
  dom_id: "#docs",
  spec: await load(),
  deepLinking: true,
  filter: true,
  displayRequestDuration: true,
  requestInterceptor: withoutCookies,
  validatorUrl: null,
});
