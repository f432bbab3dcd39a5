// Runs before the first paint, so that a dark page never flashes white. Storage can be forbidden; then nothing is kept.
(function () {
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { kept = null; }
  const dark = kept ? kept === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
