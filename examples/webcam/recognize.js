// Calls of the service and decisions about what to show. No part of this file needs a page, so a test can run it.

/** Ask the service who is in an image (a Blob). Resolves to the faces; rejects with the words of the server. */
export async function recognize({ server, gallery, key }, image) {
  const form = new FormData();
  form.append("image", image, "frame.jpg");
  const url = `${server.replace(/\/+$/, "")}/v1/galleries/${encodeURIComponent(gallery)}/recognize`;
  const answer = await fetch(url, { method: "POST", headers: { "X-API-Key": key }, body: form });
  const content = await answer.json();
  if (!answer.ok) {
    const error = new Error(content.detail || content.title);
    error.retryAfterSeconds = Number(answer.headers.get("retry-after")) || 0;
    throw error;
  }
  return content.faces;
}

/** What to draw for a face: its box in pixels of the frame, a label, and a color. */
export function labelOf(face) {
  const { left, top, right, bottom } = face.box;
  const box = { left, top, width: right - left, height: bottom - top };
  if (face.match === null) {
    return { ...box, text: "unknown", color: "#d97706" };
  }
  return { ...box, text: `${face.match.person.name} ${face.match.similarity.toFixed(2)}`, color: "#16a34a" };
}

/** One line for people who do not see the picture. */
export function summaryOf(faces) {
  if (faces.length === 0) {
    return "nobody";
  }
  return faces.map((face) => labelOf(face).text).join(", ");
}
