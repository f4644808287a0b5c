// Filters the list while a person types. Without it, the form asks the server for the same.
"use strict";
const form = document.getElementById("find");
if (form) {
  const { q, category } = form.elements;
  const found = document.getElementById("found");
  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const apps = Array.from(document.querySelectorAll("section li[id]"), (item) => {
    const about = item.querySelector(".about").textContent;
    return { item, about, text: plain(`${item.querySelector("h3").textContent} ${about}`) };
  });
  const sections = document.querySelectorAll("section");
  let telling;

  function filter() {
    const words = plain(q.value).split(/\s+/);
    const about = category.value && category.selectedOptions[0].textContent;
    let count = 0;
    for (const app of apps) {
      const fits = (!about || app.about === about) && words.every((word) => app.text.includes(word));
      app.item.hidden = !fits;
      count += fits;
    }
    for (const section of sections) {
      section.hidden = !section.querySelector("li[id]:not([hidden])");
    }
    // Said once a person pauses, not at each letter.
    clearTimeout(telling);
    telling = setTimeout(() => {
      const { none, one, many } = found.dataset;
      found.textContent = count === 0 ? none : count === 1 ? one : many.replace("#", count);
    }, 300);
    const asked = new URLSearchParams(new FormData(form));
    for (const [name, value] of [...asked]) if (!value) asked.delete(name);
    // Loading the page again, or coming back to it, shows the same.
    history.replaceState(null, "", asked.size ? `?${asked}` : location.pathname);
  }

  form.classList.add("live");
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    filter();
  });
}
