// One synthetic participant, the sending side: a drawn face and a made-up voice as one MediaStream.

import { drawFace } from "./face.js";
import { Voice } from "./voice.js";

// Small on purpose: four of these are drawn, encoded and decoded on the machine that is recording them.
export const VIDEO = { width: 320, height: 180, fps: 15 };

export const PEOPLE = [
  { name: "Ada 👩‍🚀", pitch: 205, tract: 1.12, look: "astronaut", colors: ["#4b3bd1", "#8a5cf6"], skin: "#c98a62" },
  { name: "李雷", pitch: 128, tract: 1.0, look: "short", colors: ["#0b7f7a", "#2dc6a8"], skin: "#f1c79f" },
  { name: "Søren", pitch: 96, tract: 0.92, look: "beard", colors: ["#c2571a", "#f5a742"], skin: "#f3cdb3" },
  { name: "ゆき 🎧", pitch: 248, tract: 1.2, look: "headphones", colors: ["#b72d6b", "#f472a8"], skin: "#f7d3b7" },
];

export class Participant {
  constructor(person, index, audio) {
    this.person = person;
    this.index = index;
    this.voice = new Voice(person, audio);

    const canvas = document.createElement("canvas");
    canvas.width = VIDEO.width;
    canvas.height = VIDEO.height;
    // Never on the page itself. An opaque canvas in main memory: the encoder reads every picture back anyway.
    this.paint = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    // Rate 0: a picture is taken exactly when draw() says so, never half-drawn and never twice.
    this.stream = canvas.captureStream(0);
    this.picture = this.stream.getVideoTracks()[0];
    this.stream.addTrack(this.voice.track);
  }

  draw(now) {
    drawFace(this.paint, VIDEO, this.person, now / 1000 + this.index * 17, this.voice.mouth());
    this.picture.requestFrame();
  }
}
