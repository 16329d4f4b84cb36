// The shared vectors of specs/vectors/phone, as the phone's side reads them: `node --test`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { makeHandset, step } from "./handset.js";
import { Refused, readOrder } from "./order.js";
import { judge, told } from "./policy.js";

const folder = new URL("../../../specs/vectors/phone/", import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(name, folder), "utf8"));

for (const { name, steps } of read("policy.json").cases) {
  test(`policy: ${name}`, () => {
    let senses = {};
    let low = false;
    for (const step of steps) {
      senses = told(senses, step.reading ?? {}, step.at_ms);
      const verdict = judge(senses, step.at_ms, low);
      low = verdict.low;
      assert.deepEqual([verdict.readiness, verdict.why], [step.readiness, step.why]);
    }
  });
}

const messages = read("messages.json");
for (const { message, name, value } of messages.taken.filter((each) => each.message === "PhoneOrder")) {
  test(`${message}: ${name}`, () => {
    const order = readOrder(JSON.stringify(value));
    assert.equal(order.order_id, value.order_id);
    assert.deepEqual(order.task, value.task ?? null);
    assert.equal(order.pause, value.pause ?? null);
  });
}
for (const { message, name, text, refusal } of messages.refused.filter((each) => each.message === "PhoneOrder")) {
  test(`${message} refused: ${name}`, () => {
    assert.throws(() => readOrder(text), (error) => error instanceof Refused && error.refusal === refusal);
  });
}

for (const { name, steps } of read("traces.json").cases) {
  test(`trace: ${name}`, () => {
    let handset = makeHandset({ app: "test 1", boot_id: "b1", mounts: [] });
    for (const { event, wants } of steps) {
      const happens = event.order ? { ...event, order: readOrder(JSON.stringify(event.order)) } : event;
      let wanted;
      [handset, wanted] = step(handset, happens);
      assert.deepEqual(JSON.parse(JSON.stringify(wanted)), wants, `at ${event.at_ms} ms`);
    }
  });
}
