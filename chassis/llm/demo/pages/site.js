// Makes views of the page's sections, each at an address of its own.
const links = [...document.querySelectorAll("[data-view]")];
const sections = [...document.querySelectorAll("main > section")];
const names = links.map((link) => link.dataset.view);

function named() {
  const last = location.pathname.split("/").pop();
  return names.includes(last) ? last : names[0];
}

function show(name) {
  for (const section of sections) section.hidden = section.id !== name;
  for (const link of links) link.ariaCurrent = link.dataset.view === name ? "page" : null;
}

for (const link of links) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    history.pushState(null, "", link.href);
    show(link.dataset.view);
  });
}
addEventListener("popstate", () => show(named()));
show(named());

const told = await (await fetch(new URL("content.json", import.meta.url))).json();
document.querySelector("#alive").textContent = `· ${told.sources}`;
