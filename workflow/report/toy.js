// Descent on L = x^2 / (x^2 + y^2) with weight decay: the operations of intrinsic_lr.stats.toy in their order, so that
// both give the same numbers.
function toyLosses(x, y, lr, intrinsicLr, steps) {
  const losses = [];
  for (let step = 0; step <= steps; step += 1) {
    const squaredNorm = x * x + y * y;
    losses.push((x * x) / squaredNorm);
    const gradScale = (lr * 2 * x * y) / (squaredNorm * squaredNorm);
    [x, y] = [(1 - intrinsicLr) * x - gradScale * y, (1 - intrinsicLr) * y + gradScale * x];
  }
  return losses;
}

function drawToy(figure) {
  const TIME = 12, LOWEST = -12, HIGHEST = 0.5, WIDTH = 600, HEIGHT = 240;
  const [lr, intrinsicLr] = [...figure.querySelectorAll("input")].map((input) => 10 ** input.value);
  const steps = Math.round(TIME / intrinsicLr);
  const losses = toyLosses(0.8, 0.6, lr, intrinsicLr, steps);
  const across = (step) => (WIDTH * step) / steps;
  const down = (loss) => (HEIGHT * (HIGHEST - Math.max(Math.log10(loss), LOWEST))) / (HIGHEST - LOWEST);
  const points = losses.map((loss, step) => `${across(step).toFixed(1)},${down(loss).toFixed(1)}`);
  figure.querySelector("polyline").setAttribute("points", points.join(" "));
  const level = down(intrinsicLr / 2);
  for (const end of ["y1", "y2"]) figure.querySelector("line").setAttribute(end, level);
  const late = losses.slice(Math.floor(steps / 2), steps);
  const ratio = late.reduce((sum, loss) => sum + loss, 0) / late.length / (intrinsicLr / 2);
  const [rate, decay] = figure.querySelectorAll("output");
  rate.textContent = lr.toPrecision(2);
  decay.textContent = intrinsicLr.toPrecision(2);
  figure.querySelector(".late").textContent = ratio.toFixed(2);
}

for (const figure of document.querySelectorAll("figure.toy")) {
  figure.addEventListener("input", () => drawToy(figure));
  drawToy(figure);
}
