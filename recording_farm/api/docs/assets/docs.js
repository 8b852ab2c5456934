// Shows openapi.json with Swagger UI, which the package flask-swagger-ui brings.

const CLOUDFLARE = "/client/v4/";
// The farm's address in this browser, which may differ from its public URL.
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

// "Try it out" sends the key that was entered under "Authorize" and nothing else: no session of the portal, and
// no password from the browser's own dialog.
function withoutCookies(request) {
  request.credentials = "omit";
  return request;
}

// The keyboard can scroll only elements that take the focus.
const docs = document.querySelector("#docs");
new MutationObserver(() => {
  for (const pre of docs.querySelectorAll("pre:not([tabindex])")) pre.tabIndex = 0;
}).observe(docs, { childList: true, subtree: true });

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
