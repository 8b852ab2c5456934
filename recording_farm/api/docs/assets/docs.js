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

// What Swagger UI lacks for screen readers and the keyboard. Each rule applies once to an element.
const RULES = [
  ["pre:not([tabindex])", (pre) => (pre.tabIndex = 0)], // only then can the keyboard scroll it
  ["select:not([aria-label])", (select) => (select.ariaLabel = nameOf(select))],
  // Landmarks for all that is outside of its `main`.
  [".information-container:not([role])", (about) => (about.role = "banner")],
  [".scheme-container:not([role])", (keys) => Object.assign(keys, { role: "region", ariaLabel: "Server and keys" })],
  [".filter-container:not([role])", (filter) => (filter.role = "search")],
  [".responses-table:not([aria-label])", (table) => (table.ariaLabel = `Responses, ${table.id}`)],
  [":is(h3, h4, h5):not([aria-level])", (heading) => (heading.ariaLevel = Number(heading.tagName[1]) - 1)],
  [".opblock-summary-control a[href]", (link) => link.removeAttribute("href")], // it is inside a button
];
const docs = document.querySelector("#docs");
new MutationObserver(() => {
  for (const [selector, apply] of RULES) docs.querySelectorAll(selector).forEach(apply);
}).observe(docs, { childList: true, subtree: true });

function nameOf(select) {
  return select.id === "servers" ? "Server" : (select.closest("[data-param-name]")?.dataset.paramName ?? "Value");
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
