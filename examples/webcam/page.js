// The page: camera, frames, boxes. Frames are sent one at a time, so a slow server is never flooded.
import { labelOf, recognize, summaryOf } from "./recognize.js";

const LARGEST_SIDE = 800; // pixels; the encoders detect in about this size

const video = document.querySelector("#video");
const boxes = document.querySelector("#boxes");
const state = document.querySelector("#state");

document.querySelector("#connection").addEventListener("submit", async (event) => {
  event.preventDefault();
  const connection = Object.fromEntries(new FormData(event.target));
  event.target.querySelector("button").disabled = true;
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    await video.play();
    await watch(connection);
  } catch (error) {
    state.textContent = error.message;
    event.target.querySelector("button").disabled = false;
  }
});

async function watch(connection) {
  for (;;) {
    const { image, width, height } = await frame();
    try {
      const faces = await recognize(connection, image);
      draw(faces, width, height);
      state.textContent = summaryOf(faces);
    } catch (error) {
      if (!error.retryAfterSeconds) {
        throw error;
      }
      await new Promise((done) => setTimeout(done, error.retryAfterSeconds * 1000));
    }
  }
}

async function frame() {
  const factor = Math.min(1, LARGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(video.videoWidth * factor);
  canvas.height = Math.round(video.videoHeight * factor);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const image = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
  return { image, width: canvas.width, height: canvas.height };
}

function draw(faces, width, height) {
  boxes.width = width;
  boxes.height = height;
  const pen = boxes.getContext("2d");
  pen.lineWidth = 3;
  pen.font = "16px system-ui, sans-serif";
  for (const { left, top, width: wide, height: high, text, color } of faces.map(labelOf)) {
    pen.strokeStyle = pen.fillStyle = color;
    pen.strokeRect(left, top, wide, high);
    pen.fillText(text, left, Math.max(16, top - 6));
  }
}
