// Battery, power and heat: whether this phone may work (specs/phone.md, PHONE-020 ff.).
// The same cases as in Python are in specs/vectors/phone/policy.json.

const STALE_MS = 15 * 60 * 1000;
const LOW = 20;
const ENOUGH = 25;
const GOOD = 50;
const DAY = 24 * 60;
const NIGHT_FROM = 22 * 60;
const NIGHT_UNTIL = 6 * 60;
const HOT = new Set(["serious", "critical"]);

/** Return the senses with what a reading adds; what it leaves out stays as it was. */
export function told(senses, reading, atMs) {
  const next = { ...senses };
  for (const [name, value] of Object.entries(reading)) {
    if (value !== null && value !== undefined) next[name] = { value, atMs };
  }
  return next;
}

/** Return what is known of a sensor, or null: never heard of, or for 15 minutes. */
function get(senses, name, atMs) {
  const known = senses[name];
  return known !== undefined && atMs - known.atMs < STALE_MS ? known.value : null;
}

function isNight(senses, atMs) {
  const minute = get(senses, "local_minute", atMs);
  if (minute === null) return false;
  const now = (minute + (atMs - senses.local_minute.atMs) / 60000) % DAY;
  return now >= NIGHT_FROM || now < NIGHT_UNTIL;
}

/**
 * Return {readiness, why, low}: whether the phone may work now.
 * `wasLow` is what the last verdict said, false for the first.
 */
export function judge(senses, atMs, wasLow) {
  const battery = get(senses, "battery", atMs);
  const low = battery === null ? wasLow : battery < LOW || (wasLow && battery < ENOUGH);
  const say = (readiness, why) => ({ readiness, why, low });
  if (HOT.has(get(senses, "thermal", atMs))) return say("paused", "heat");
  if (get(senses, "low_power", atMs)) return say("paused", "low_power");
  if (battery !== null && low) return say("paused", "low_battery");
  if (get(senses, "on_power", atMs)) {
    return isNight(senses, atMs) ? say("preferred", "charging_at_night") : say("eligible", "charging");
  }
  if (battery !== null && battery > GOOD) return say("eligible", "good_battery");
  return say("standby", "not_charging");
}
