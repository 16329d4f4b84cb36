// What a phone says and does (specs/phone.md, PHONE-010 ff.): step(handset, event) gives the next
// handset and what it wants done, in order. No clock, no network: events carry their time.
// The same cases as in Python are in specs/vectors/phone/traces.json.

import { judge, told } from "./policy.js";

const VERSION = 1;

/** Return a handset that has just started. */
export function makeHandset(model) {
  return {
    model,
    connectionId: null,
    senses: {},
    reading: {},
    low: false,
    orderId: null,
    pause: null,
    job: null, // {task, untilMs, stage: resting | working | handing in | ended, report}
  };
}

const keyOf = (task) => [task.task_id, task.attempt];
const isSame = (one, other) => one[0] === other[0] && one[1] === other[1];
const given = (fields) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));

class Turn {
  constructor(handset, atMs) {
    this.now = { ...handset };
    this.atMs = atMs;
    this.wants = [];
  }

  get job() {
    return this.now.job;
  }

  changeJob(fields) {
    this.now.job = { ...this.now.job, ...fields };
  }

  /** What is said without a connection is not said: the state says it all again. */
  say(name, value) {
    if (this.now.connectionId !== null) this.wants.push({ say: name, value });
  }

  sayState() {
    const { model, connectionId, reading, orderId, job } = this.now;
    const holding = job && { task_id: job.task.task_id, attempt: job.task.attempt };
    this.say("PhoneState", {
      v: VERSION,
      ...given({ connection_id: connectionId, boot_id: model.boot_id, app: model.app }),
      ...given({ resources: model.resources, mounts: model.mounts, reading, order_id: orderId, holding }),
    });
  }

  report(status, fields = {}) {
    return { v: VERSION, task_id: this.job.task.task_id, attempt: this.job.task.attempt, status, ...given(fields) };
  }

  /** Begin, rest or give up, as order, policy and time say. */
  settle() {
    const verdict = judge(this.now.senses, this.atMs, this.now.low);
    this.now.low = verdict.low;
    const reason = this.now.pause ?? (verdict.readiness === "paused" ? verdict.why : null);
    const job = this.job;
    if (job === null) return;
    const follows = this.now.connectionId !== null && this.now.orderId !== null;
    if (this.atMs >= job.untilMs) {
      this.letGo();
    } else if (job.stage === "resting" && reason === null && follows) {
      this.changeJob({ stage: "working" });
      this.wants.push({ work: keyOf(job.task), wall_ms: Math.round(job.untilMs - this.atMs) });
    } else if (job.stage === "working" && reason !== null) {
      this.halt(reason);
    }
  }

  /** Stop the guest and keep the task. */
  halt(reason) {
    this.changeJob({ stage: "resting" });
    this.wants.push({ halt: keyOf(this.job.task) });
    this.say("PhoneReport", this.report("paused", { pause: reason }));
  }

  /** Stop what runs and forget the task with all that came of it. */
  letGo() {
    const key = keyOf(this.job.task);
    if (this.job.stage === "working") this.wants.push({ halt: key });
    this.wants.push({ drop: key });
    this.now.job = null;
  }

  /** Say, or hand in, once more what nobody has answered by an order yet. */
  again() {
    if (this.job?.stage === "handing in") this.wants.push({ hand_in: keyOf(this.job.task) });
    if (this.job?.stage === "ended") this.say("PhoneReport", this.job.report);
  }
}

const HANDLERS = {
  connected(turn, event) {
    turn.now.connectionId = event.connection_id;
    turn.now.orderId = null;
    turn.sayState();
    turn.again();
  },
  lost(turn) {
    turn.now.connectionId = null;
  },
  sleeps(turn) {
    if (turn.job?.stage === "working") turn.halt("asleep");
    turn.say("PhoneAsleep", { v: VERSION, connection_id: turn.now.connectionId });
    turn.now.connectionId = null;
  },
  felt(turn, event) {
    const isNews = !isEqual(event.reading, turn.now.reading);
    turn.now.senses = told(turn.now.senses, event.reading, event.at_ms);
    turn.now.reading = event.reading;
    if (isNews) turn.sayState();
  },
  beat(turn) {
    turn.sayState();
    turn.again();
  },
  order(turn, event) {
    const { order_id, task = null, pause = null } = event.order;
    if (turn.job !== null && (task === null || !isSame(keyOf(turn.job.task), keyOf(task)))) turn.letGo();
    if (task !== null && turn.job === null) {
      turn.now.job = { task, untilMs: event.at_ms + task.remaining_s * 1000, stage: "resting", report: null };
    }
    const isNews = order_id !== turn.now.orderId;
    turn.now.orderId = order_id;
    turn.now.pause = pause;
    if (isNews) {
      turn.sayState();
      turn.again();
    }
  },
  began(turn) {
    turn.say("PhoneReport", turn.report("running"));
  },
  progressed(turn, event) {
    turn.say("PhoneReport", turn.report("progress", { progress: event.progress }));
  },
  ended(turn, event) {
    if (turn.job.stage !== "working") return; // it was halted in the very moment of its end
    const { reason = null, message, exit_code, stderr_tail, usage } = event;
    const status = reason === null ? "succeeded" : "failed";
    const report = turn.report(status, { reason, message, exit_code, stderr_tail, usage });
    if (reason === null && turn.job.task.outputs.length > 0) {
      turn.changeJob({ stage: "handing in", report });
      turn.wants.push({ hand_in: keyOf(turn.job.task) });
    } else {
      turn.changeJob({ stage: "ended", report });
      turn.say("PhoneReport", report);
    }
  },
  handed_in(turn, event) {
    if (!event.wanted) {
      turn.letGo();
    } else if (turn.job.stage === "handing in") {
      turn.changeJob({ stage: "ended" });
      turn.say("PhoneReport", turn.job.report);
    }
  },
  hand_in_delayed() {}, // the next beat, or the next connection, tries again
};

function isEqual(one, other) {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...names].every((name) => one[name] === other[name]);
}

/** Let one event happen to a phone; return [handset, wants]. */
export function step(handset, event) {
  const turn = new Turn(handset, event.at_ms);
  const isMine = event.key === undefined || (turn.job !== null && isSame(keyOf(turn.job.task), event.key));
  if (isMine) HANDLERS[event.type](turn, event);
  turn.settle();
  return [turn.now, turn.wants];
}
