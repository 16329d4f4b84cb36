// Reads ios/<device>/down/order (specs/phone.md, PHONE-001, PHONE-002, PhoneOrder).

const VERSION = 1;
const WEEK_S = 604800;
const MAX_BYTES = 4 * 1024 * 1024;
const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const DERIVED_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63})*$/;
const FILE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const MOUNT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\??$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** A payload broke a rule; `refusal` is the rule's name. */
export class Refused extends Error {
  constructor(refusal, detail) {
    super(`${refusal}: ${detail}`);
    this.refusal = refusal;
  }
}

function need(good, place) {
  if (!good) throw new Refused("malformed", place);
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value, pattern) => typeof value === "string" && (!pattern || pattern.test(value));
const isCount = (value, least) => Number.isSafeInteger(value) && value >= least;

function list(value, check, place) {
  const found = value ?? [];
  need(Array.isArray(found), place);
  return found.map((each, n) => check(each, `${place}.${n}`));
}

function file(value, place) {
  need(isObject(value), place);
  need(isText(value.name, FILE), `${place}.name`);
  need(isText(value.sha256, SHA256), `${place}.sha256`);
  need(isCount(value.size, 0), `${place}.size`);
  return { name: value.name, sha256: value.sha256, size: value.size };
}

function text(pattern) {
  return (value, place) => {
    need(isText(value, pattern), place);
    return value;
  };
}

function environment(value) {
  const found = value ?? {};
  need(isObject(found) && Object.values(found).every((each) => isText(each)), "task.env");
  return { ...found };
}

function limits(value) {
  const found = { memory_mb: 256, wall_s: null, out_mb: 64, stdout_mb: 16, ...value };
  for (const name of ["memory_mb", "out_mb", "stdout_mb"]) {
    need(isCount(found[name], 1), `task.limits.${name}`);
  }
  const wall = found.wall_s ?? null;
  need(wall === null || (typeof wall === "number" && wall > 0), "task.limits.wall_s");
  return { memory_mb: found.memory_mb, wall_s: wall, out_mb: found.out_mb, stdout_mb: found.stdout_mb };
}

function task(value) {
  need(isObject(value), "task");
  const { task_id, attempt, remaining_s } = value;
  need(isText(task_id, DERIVED_ID) && task_id.length <= 200, "task.task_id");
  need(isCount(attempt, 1), "task.attempt");
  need(typeof remaining_s === "number" && remaining_s >= 0 && remaining_s <= WEEK_S, "task.remaining_s");
  return {
    task_id,
    attempt,
    remaining_s,
    image: file(value.image, "task.image"),
    args: list(value.args, text(null), "task.args"),
    env: environment(value.env),
    inputs: list(value.inputs, file, "task.inputs"),
    outputs: list(value.outputs, text(FILE), "task.outputs"),
    mounts: list(value.mounts, text(MOUNT), "task.mounts"),
    limits: limits(value.limits),
  };
}

/** Return the order of a payload (text); throw Refused if it is none. */
export function readOrder(payload) {
  need(payload.length <= MAX_BYTES, "longer than an order may be");
  let value;
  try {
    value = JSON.parse(payload);
  } catch (error) {
    throw new Refused("malformed", String(error));
  }
  need(isObject(value), "no object");
  need(isText(value.order_id, ID), "order_id");
  const version = value.v ?? 1;
  need(isCount(version, 1), "v");
  if (version > VERSION) throw new Refused("newer_version", `v ${version}`);
  const pause = value.pause ?? null;
  need(pause === null || isText(pause), "pause");
  const wanted = value.task ?? null;
  return { order_id: value.order_id, task: wanted === null ? null : task(wanted), pause };
}
