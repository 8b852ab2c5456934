// Who talks when: turns with short overlaps, moments of quiet, and now and then a short "mm-hm" into another's turn.

const AHEAD = 1.5; // seconds of talk that are planned in advance

export class Conversation {
  constructor(voices, audio) {
    this.voices = voices;
    this.audio = audio;
    this.random = seeded(20240229); // the same talk every time: two recordings can be compared
    this.turns = 0;
    this.speaker = -1;
    this.busyUntil = voices.map(() => 0);
    this.next = 0; // when the next turn begins, on the audio clock
  }

  // To be called a few times a second; cheap when there is nothing to plan.
  plan() {
    const now = this.audio.currentTime;
    // Someone begins at once, and the talk goes on from "now" after the audio clock has been asleep.
    this.next = Math.max(this.next, now + 0.1);
    while (this.next < now + AHEAD) {
      this.turn();
    }
  }

  turn() {
    const { random, voices } = this;
    // In the first round everybody says hello in order, so that all four are heard within seconds.
    const hello = this.turns < voices.length;
    this.turns += 1;
    this.speaker = (this.speaker + (hello ? 1 : 1 + Math.floor(random() * (voices.length - 1)))) % voices.length;

    const start = Math.max(this.next, this.busyUntil[this.speaker] + 0.2);
    const seconds = hello ? 1.1 : 2.2 + 2.3 * random();
    const end = voices[this.speaker].say(start, seconds, random);
    this.busyUntil[this.speaker] = end;

    const listener = (this.speaker + 1 + Math.floor(random() * (voices.length - 1))) % voices.length;
    if (!hello && random() < 0.35 && this.busyUntil[listener] < start) {
      this.busyUntil[listener] = voices[listener].say(start + 0.5 * seconds, 0.3, random);
    }

    const gaps = [-0.35, -0.15, 0.25, 0.5, 1.1];
    this.next = end + (hello ? 0.15 : gaps[Math.floor(random() * gaps.length)]);
  }
}

// mulberry32: a small, fast generator that gives the same numbers for the same seed.
function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
