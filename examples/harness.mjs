// A loss in JavaScript behind the protocol of docs/any-language.md: the focal loss, L1 and GIoU of matched boxes.
// detr-conformance check --command "node examples/harness.mjs" --level smoke
import { createInterface } from "node:readline";

const EPS = 1e-7;
const KEYS = ["loss_class", "loss_bbox", "loss_giou"];
const DESCRIPTION = {
  name: "JavaScript",
  profile: "ultralytics",
  capabilities: ["focal", "match", "matcher_options", "no_aux"],
  dtypes: ["float32", "float64"],
};

const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
const range = (count) => Array.from({ length: count }, (_, place) => place);

const bytesOf = (array) => Buffer.from(array.data, "base64");

// Nested lists of an array of float64, little-endian as this machine's numbers are.
function numbersOf(array) {
  const flat = new Float64Array(new Uint8Array(bytesOf(array)).buffer);
  const rows = (from, [size, ...rest]) =>
    size === undefined ? flat[from] : range(size).map((row) => rows(from * size + row, rest));
  return rows(0, array.shape);
}

// A number as an array of shape []: JSON has no NaN and no infinity.
const arrayOf = (number) => ({
  shape: [],
  dtype: "float64",
  data: Buffer.from(new Float64Array([number]).buffer).toString("base64"),
});

const l1 = (one, other) => sum(one.map((each, side) => Math.abs(each - other[side])));

function giou(one, other) {
  const [a, b] = [one, other].map(([x, y, w, h]) => [x - w / 2, y - h / 2, x + w / 2, y + h / 2]);
  const overlap = (axis) => Math.max(0, Math.min(a[axis + 2], b[axis + 2]) - Math.max(a[axis], b[axis]));
  const hullSide = (axis) => Math.max(a[axis + 2], b[axis + 2]) - Math.min(a[axis], b[axis]);
  const inter = overlap(0) * overlap(1);
  const union = one[2] * one[3] + other[2] * other[3] - inter + EPS;
  const hull = hullSide(0) * hullSide(1) + EPS;
  return inter / union - (hull - union) / hull;
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

// An alpha that is not above 0 balances nothing.
function focal(x, isTarget, { alpha, gamma }) {
  const z = isTarget ? x : -x;
  const balance = isTarget ? alpha : 1 - alpha;
  return (alpha > 0 ? balance : 1) * sigmoid(-z) ** gamma * softplus(-z);
}

// What a focal loss would gain, with an eps in the logarithm; where costs are not focal, minus the softmax.
function classCost(row, column, { alpha, gamma, use_fl }) {
  const top = Math.max(...row);
  if (!use_fl) return -Math.exp(row[column] - top) / sum(row.map((x) => Math.exp(x - top)));
  const p = sigmoid(row[column]);
  return alpha * (1 - p) ** gamma * -Math.log(p + 1e-8) - (1 - alpha) * p ** gamma * -Math.log(1 - p + 1e-8);
}

// The Hungarian algorithm for rows that are no more than the columns: the column of each row.
function assignment(costs, columns) {
  const u = Array(costs.length + 1).fill(0);
  const v = Array(columns + 1).fill(0);
  const rowOf = Array(columns + 1).fill(0);
  for (let row = 1; row <= costs.length; row++) {
    const least = Array(columns + 1).fill(Infinity);
    const before = Array(columns + 1).fill(0);
    const used = new Set();
    let at = 0;
    for (rowOf[0] = row; rowOf[at] !== 0; ) {
      used.add(at);
      let next = 0;
      for (let column = 1; column <= columns; column++) {
        if (used.has(column)) continue;
        const reduced = costs[rowOf[at] - 1][column - 1] - u[rowOf[at]] - v[column];
        if (reduced < least[column]) [least[column], before[column]] = [reduced, at];
        if (next === 0 || least[column] < least[next]) next = column;
      }
      const delta = least[next];
      for (let column = 0; column <= columns; column++) {
        if (used.has(column)) [u[rowOf[column]], v[column]] = [u[rowOf[column]] + delta, v[column] - delta];
        else least[column] -= delta;
      }
      at = next;
    }
    for (; at !== 0; at = before[at]) rowOf[at] = rowOf[before[at]];
  }
  const found = Array(costs.length);
  rowOf.forEach((row, column) => column > 0 && row > 0 && (found[row - 1] = column - 1));
  return found;
}

function matched(logits, boxes, classes, targets, options) {
  const cost = (query, target) => {
    const [ofClass, box] = [classCost(logits[query], classes[target], options), boxes[query]];
    const { class: gain, bbox, giou: overlap } = options.cost_gain;
    const total = gain * ofClass + bbox * l1(box, targets[target]) + overlap * (1 - giou(box, targets[target]));
    return Number.isFinite(total) ? total : 0;
  };
  const [queries, own] = [range(boxes.length), range(targets.length)];
  if (own.length <= queries.length) {
    return [assignment(own.map((target) => queries.map((query) => cost(query, target))), queries.length), own];
  }
  return [queries, assignment(queries.map((query) => own.map((target) => cost(query, target))), own.length)];
}

// For each image its first target, and the number of them.
function imagesOf(groups) {
  let next = 0;
  return groups.map((count) => [(next += count) - count, count]);
}

// For each layer and image the matched queries, and their targets counted through the batch.
function match({ pred_scores, pred_bboxes, gt_cls, gt_bboxes, gt_groups, matcher }) {
  const [scores, boxes, targets] = [pred_scores, pred_bboxes, gt_bboxes].map(numbersOf);
  return boxes.map((layer, place) =>
    imagesOf(gt_groups).map(([first, count], image) => {
      const own = [gt_cls, targets].map((each) => each.slice(first, first + count));
      const [queries, found] = matched(scores[place][image], layer[image], ...own, matcher);
      return [queries, found.map((target) => first + target)];
    }),
  );
}

function loss(given) {
  const { config, gt_cls, gt_bboxes } = given;
  const [scores, boxes, targets] = [given.pred_scores, given.pred_bboxes, gt_bboxes].map(numbersOf);
  const layers = match(given).map((images, place) => {
    const pairs = images.flatMap(([queries, found], i) => queries.map((query, pair) => [i, query, found[pair]]));
    const classOf = new Map(pairs.map(([image, query, target]) => [`${image} ${query}`, gt_cls[target]]));
    const matchedBoxes = pairs.map(([image, query, target]) => [boxes[place][image][query], targets[target]]);
    const ofClass = scores[place].flatMap((image, i) =>
      image.flatMap((row, q) => row.map((x, column) => focal(x, classOf.get(`${i} ${q}`) === column, config))),
    );
    const terms = [ofClass, matchedBoxes.map((pair) => l1(...pair)), matchedBoxes.map((pair) => 1 - giou(...pair))];
    const gains = [config.loss_gain.class, config.loss_gain.bbox, config.loss_gain.giou];
    return terms.map((each, term) => (gains[term] * sum(each)) / Math.max(pairs.length, 1));
  });
  const [main, before] = [layers.at(-1), layers.slice(0, -1)];
  const losses = KEYS.map((key, term) => [key, arrayOf(main[term])]);
  const auxiliary = KEYS.map((key, term) => [`${key}_aux`, arrayOf(sum(before.map((each) => each[term])))]);
  return { losses: Object.fromEntries([...losses, ...(config.aux_loss ? auxiliary : [])]) };
}

const METHODS = {
  describe: () => DESCRIPTION,
  echo: ({ values }) => values.map((each) => ({ ...each, data: bytesOf(each).toString("base64") })),
  loss: (request) => loss(request.case),
  match: (request) => match(request.case),
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.method === "stop") break;
  const reply = { id: request.id };
  try {
    if (!(request.method in METHODS)) throw new TypeError(`unknown method ${request.method}`);
    reply.answer = METHODS[request.method](request);
  } catch (error) {
    reply.error = { type: error.name, message: error.message, traceback: error.stack };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
