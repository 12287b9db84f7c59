// An upload by tus-js-client: node client.mjs ENDPOINT TOKEN FILE PARALLEL [STOP_AT] [URL]
// It prints the upload's URL. At STOP_AT bytes it dies without a word; with URL it goes on.
import { createReadStream } from "node:fs";
import { Upload } from "tus-js-client";

const [endpoint, token, path, parallel, stopAt, url] = process.argv.slice(2);
const stop = Number(stopAt || Infinity);
let printed = null;
const print = () => {
  if (upload.url && upload.url !== printed) console.log((printed = upload.url));
};
const upload = new Upload(createReadStream(path), {
  endpoint,
  uploadUrl: url || null,
  parallelUploads: Number(parallel),
  chunkSize: 3 * 1024 * 1024,
  retryDelays: [100, 300, 1000, 2000, 2000, 2000],
  headers: { Authorization: `Bearer ${token}` },
  metadata: { filename: "naïve film.bin", filetype: "image/png" },
  onUploadUrlAvailable: print,
  onProgress: (sent) => sent >= stop && process.kill(process.pid, "SIGKILL"),
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess: print,
});
upload.start();
