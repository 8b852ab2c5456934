// A made-up voice. A buzz (the vocal cords) and a hiss (consonants) go through three resonances (the mouth), and
// every syllable opens and closes the lot. Nobody will understand it, but it has what a recording's sound has to keep:
// pitch, vowels, consonants, pauses.
//
// It plays into a MediaStreamTrack only, never into the loudspeaker: the page must be heard through WebRTC or not at all.

// The first three resonances of some vowels, in Hz, for a tract of length 1.
const VOWELS = [
  { tones: [730, 1150, 2440], open: 1.0 }, // a
  { tones: [530, 1840, 2480], open: 0.7 }, // e
  { tones: [290, 2250, 2950], open: 0.4 }, // i
  { tones: [570, 860, 2410], open: 0.75 }, // o
  { tones: [320, 890, 2250], open: 0.4 }, // u
];
const GAINS = [1, 0.55, 0.3];

let noise; // one second of hiss, the same for everyone

export class Voice {
  constructor({ pitch, tract }, audio) {
    this.audio = audio;
    this.pitch = pitch;
    this.tract = tract;
    this.syllables = []; // the ones not over yet, for the mouth
    noise ??= makeNoise(audio);

    const out = audio.createMediaStreamDestination();
    out.channelCount = 1;
    this.track = out.stream.getAudioTracks()[0];

    this.volume = audio.createGain();
    this.volume.gain.value = 0;
    this.volume.connect(out);
    this.hiss = audio.createGain();
    this.hiss.gain.value = 0;
    this.hissColor = new BiquadFilterNode(audio, { type: "highpass", frequency: 3200 });
    this.hissColor.connect(this.hiss).connect(out);
    this.mouthFilters = GAINS.map((gain, i) => {
      const filter = new BiquadFilterNode(audio, { type: "bandpass", Q: 5 + 3 * i });
      // A vowel glides, but nobody hears it move within 3 ms, and per-sample coefficients cost much more.
      filter.frequency.automationRate = "k-rate";
      const level = new GainNode(audio, { gain });
      filter.connect(level).connect(this.volume);
      return filter;
    });
  }

  // Plans one utterance of about `seconds`, from `start` on the audio clock. Returns when it ends.
  say(start, seconds, random) {
    const { audio, pitch, tract } = this;
    const cords = new OscillatorNode(audio, { type: "sawtooth", frequency: pitch });
    const breath = new AudioBufferSourceNode(audio, { buffer: noise, loop: true });
    for (const filter of this.mouthFilters) {
      cords.connect(filter);
    }
    breath.connect(this.hissColor);

    let at = start;
    let phrase = 3 + Math.floor(random() * 4);
    while (at < start + seconds) {
      const length = 0.12 + 0.13 * random();
      const vowel = VOWELS[Math.floor(random() * VOWELS.length)];
      const peak = 0.55 + 0.45 * random();
      const through = (at - start) / seconds;

      if (random() < 0.45) {
        this.consonant(at - 0.045, 0.06, 0.05 + 0.05 * random());
      }
      vowel.tones.forEach((tone, i) => {
        this.mouthFilters[i].frequency.setTargetAtTime(tone * tract, at, 0.02);
      });
      // The pitch sinks over the utterance, as in a statement, and each syllable has its own accent.
      cords.frequency.setTargetAtTime(pitch * (1.16 - 0.3 * through + 0.16 * (random() - 0.5)), at, 0.04);
      const gain = this.volume.gain;
      gain.setTargetAtTime(1.1 * peak, at, 0.018);
      gain.setTargetAtTime(0, at + length * 0.72, 0.03);
      this.syllables.push({ start: at, end: at + length, open: peak * vowel.open });

      at += length + 0.02;
      phrase -= 1;
      if (phrase === 0) {
        at += 0.12 + 0.2 * random(); // a breath between phrases
        phrase = 3 + Math.floor(random() * 5);
      }
    }
    // Nothing runs while nobody talks: the sources live for one utterance.
    for (const source of [cords, breath]) {
      source.start(Math.max(0, start - 0.1));
      source.stop(at + 0.3);
    }
    return at;
  }

  consonant(at, length, level) {
    this.hiss.gain.setTargetAtTime(level, at, 0.012);
    this.hiss.gain.setTargetAtTime(0, at + length, 0.015);
  }

  // How far the mouth is open at this moment, 0 to 1.
  mouth() {
    const now = this.audio.currentTime;
    while (this.syllables.length > 0 && this.syllables[0].end < now) {
      this.syllables.shift();
    }
    const next = this.syllables[0];
    if (next === undefined || next.start > now) {
      return 0;
    }
    return next.open * Math.sin((Math.PI * (now - next.start)) / (next.end - next.start)) ** 0.7;
  }
}

function makeNoise(audio) {
  const buffer = audio.createBuffer(1, audio.sampleRate, audio.sampleRate);
  const samples = buffer.getChannelData(0);
  for (let i = 0; i < samples.length; i += 1) {
    samples[i] = Math.random() * 2 - 1;
  }
  return buffer;
}
