// Draws every interactive figure and then hides the static one that stood in for it.
const webgl = !!document.createElement("canvas").getContext("webgl");
for (const source of document.querySelectorAll("script[type='application/json']")) {
  const plot = JSON.parse(source.textContent), target = source.previousElementSibling;
  if (plot.data.some(trace => trace.type === "parcoords") && !webgl) continue;
  const buttons = [["zoom2d", "pan2d", "resetScale2d", "toImage"]];
  const options = {displaylogo: false, responsive: true, modeBarButtons: buttons};
  Plotly.newPlot(target, plot.data, plot.layout, options)
    .then(() => { target.parentElement.querySelector("img").hidden = true; });
}
