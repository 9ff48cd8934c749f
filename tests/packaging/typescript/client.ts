// Enrolls and recognizes with the generated types. tsc checks that the requests fit them.
import createClient from "openapi-fetch";
import { readFileSync } from "node:fs";
import type { paths } from "./schema.js";

const [url, key, ada] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

function form(body: Record<string, unknown>): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(body)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      data.append(name, one as Blob, "ada.jpg");
    }
  }
  return data;
}

// The generator gives binary strings the type `string`, unless it is told otherwise.
const image = new Blob([readFileSync(ada)]) as unknown as string;
const embedding: number[] = JSON.parse(readFileSync(0, "utf-8"));
const gallery = { path: { gallery: "three" } };
await client.POST("/v1/galleries", { body: { name: "three", verification_only: false } });
const made = await client.POST("/v1/galleries/{gallery}/faces", {
  params: { ...gallery, query: { person: "Ada" } },
  body: { image: [image] },
  bodySerializer: form,
});
await client.POST("/v1/galleries/{gallery}/faces/embedding", {
  params: { ...gallery, query: { person: "Eve" } },
  body: { embedding },
});
const found = await client.POST("/v1/galleries/{gallery}/recognize", {
  params: gallery,
  body: { image },
  bodySerializer: form,
});
const known = await client.POST("/v1/galleries/{gallery}/recognize/embeddings", {
  params: gallery,
  body: { embedding },
});
const same = await client.POST("/v1/compare", { body: { image: [image, image] }, bodySerializer: form });
const names = [found, known].map((answer) => answer.data?.faces[0]?.match?.person.name);
console.log(JSON.stringify([made.data?.person.name, made.data?.faces.length, ...names, same.data?.verified]));
