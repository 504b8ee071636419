// A whole build's calls, and those around it, by the official client. Arguments: API, token. Prints one line of JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { dirname, join } from "node:path";

const [host, token, modules] = process.argv.slice(2);
const entry = createRequire(pathToFileURL(join(modules, "x.js"))).resolve("@oxide/api");
const { Api } = await import(pathToFileURL(join(dirname(entry), "Api.js")));
const api = new Api({ host, token });
const GiB = 2 ** 30;
const project = "bakery";

async function ok(call, status) {
  const result = await call;
  if (result.type !== "success" || result.response.status !== status) {
    throw new Error(`${result.response.url}: ${result.response.status} ${JSON.stringify(result.data ?? result.text)}`);
  }
  return result.data;
}

async function refused(call, status, errorCode) {
  const result = await call;
  if (result.type !== "error" || result.response.status !== status || result.data.errorCode !== errorCode) {
    throw new Error(`${result.response.url}: ${result.response.status} ${JSON.stringify(result.data)}`);
  }
  return result.data.message;
}

async function becomes(instance, runState) {
  for (let tries = 0; tries < 2000; tries++) {
    const seen = await ok(api.methods.instanceView({ path: { instance } }), 200);
    if (seen.runState === runState) return seen;
    await new Promise((wake) => setTimeout(wake, 10));
  }
  throw new Error(`never ${runState}`);
}

const { methods } = api;
await ok(methods.ping({}), 200);
const me = await ok(methods.currentUserView({}), 200);
const source = await ok(methods.imageView({ path: { image: "debian-12" } }), 200);
await refused(methods.imageView({ path: { image: "built" }, query: { project } }), 404, "ObjectNotFound");
const key = await ok(
  methods.currentUserSshKeyCreate({ body: { name: "build", description: "", publicKey: "ssh-ed25519 AAAA" } }), 201);

const floating = await ok(methods.floatingIpCreate({ query: { project }, body: { name: "f", description: "" } }), 201);
const group = await ok(methods.antiAffinityGroupCreate({
  query: { project }, body: { name: "g", description: "", policy: "fail", failureDomain: "sled" },
}), 201);
const created = await ok(methods.instanceCreate({
  query: { project },
  body: {
    name: "build", description: "by a test", hostname: "build", memory: GiB, ncpus: 1, start: true,
    bootDisk: {
      type: "create", name: "build", description: "", size: 2 * GiB,
      diskBackend: { type: "distributed", diskSource: { type: "image", imageId: source.id } },
    },
    disks: [{
      type: "create", name: "data", description: "", size: GiB,
      diskBackend: { type: "distributed", diskSource: { type: "blank", blockSize: 512 } },
    }],
    networkInterfaces: {
      type: "create",
      params: [{
        name: "build", description: "", vpcName: "default", subnetName: "default",
        ipConfig: { type: "v4", value: { ip: { type: "auto" }, transitIps: [] } },
      }],
    },
    externalIps: [
      { type: "ephemeral", poolSelector: { type: "auto", ipVersion: "v4" } },
      { type: "floating", floatingIp: floating.id },
    ],
    antiAffinityGroups: [group.name],
    sshPublicKeys: [key.id],
    userData: Buffer.from("#!/bin/sh\n").toString("base64"),
    autoRestartPolicy: "never",
  },
}), 201);
const path = { instance: created.id };
await refused(methods.instanceDelete({ path }), 400, "InvalidRequest");
await becomes(created.id, "running");
const ips = await ok(methods.instanceExternalIpList({ path }), 200);
const nics = await ok(methods.instanceNetworkInterfaceList({ query: { instance: created.id } }), 200);
const serial = await ok(methods.instanceSerialConsole({ path, query: { fromStart: 0 } }), 200);
await ok(methods.instanceReboot({ path }), 202);
await becomes(created.id, "running");
await ok(methods.instanceStop({ path }), 202);
await becomes(created.id, "stopped");

const snapshot = await ok(
  methods.snapshotCreate({ query: { project }, body: { name: "build", description: "", disk: created.bootDiskId } }), 201);
const body = { name: "built", description: "", os: "debian", version: "12", source: { type: "snapshot", id: snapshot.id } };
const image = await ok(methods.imageCreate({ query: { project }, body }), 201);
await refused(methods.imageCreate({ query: { project }, body }), 400, "ObjectAlreadyExists");
const promoted = await ok(methods.imagePromote({ path: { image: image.id } }), 202);
const demoted = await ok(methods.imageDemote({ path: { image: image.id }, query: { project } }), 202);

await ok(methods.instanceDelete({ path }), 204);
await refused(methods.instanceView({ path }), 404, "ObjectNotFound");
await ok(methods.snapshotDelete({ path: { snapshot: snapshot.id } }), 204);
for (const disk of ["build", "data"]) await ok(methods.diskDelete({ path: { disk }, query: { project } }), 204);
await ok(methods.floatingIpDelete({ path: { floatingIp: floating.id } }), 204);
await ok(methods.antiAffinityGroupDelete({ path: { antiAffinityGroup: group.id } }), 204);
await ok(methods.currentUserSshKeyDelete({ path: { sshKey: key.id } }), 204);

const imported = { path: { disk: "import" }, query: { project } };
await ok(methods.diskCreate({
  query: { project },
  body: {
    name: "import", description: "", size: GiB,
    diskBackend: { type: "distributed", diskSource: { type: "importing_blocks", blockSize: 512 } },
  },
}), 201);
await ok(methods.diskBulkWriteImportStart(imported), 204);
const base64EncodedData = Buffer.alloc(512 * 1024, "x").toString("base64");
await ok(methods.diskBulkWriteImport({ ...imported, body: { offset: 0, base64EncodedData } }), 204);
await ok(methods.diskBulkWriteImportStop(imported), 204);
await ok(methods.diskFinalizeImport({ ...imported, body: { snapshotName: "imported" } }), 204);
const disk = await ok(methods.diskView(imported), 200);
await ok(methods.diskDelete(imported), 204);

const names = [];
let pageToken;
do {
  const query = { project, limit: 1, sortBy: "name_descending", pageToken };
  const page = await ok(methods.imageList({ query }), 200);
  names.push(...page.items.map((item) => item.name));
  pageToken = page.nextPage;
} while (pageToken);
const utilization = await ok(methods.utilizationView({}), 200);
console.log(JSON.stringify({
  silo: me.siloName, silo_admin: me.siloAdmin, kinds: ips.items.map((ip) => ip.kind), primary: nics.items[0].primary,
  stack: nics.items[0].ipStack.type, serial: String.fromCharCode(...serial.data), promoted: promoted.projectId ?? null,
  demoted: demoted.projectId, project: image.projectId, digest: image.digest ?? null, disk: disk.state.state, names,
  provisioned: utilization.provisioned, time: demoted.timeModified instanceof Date,
}));
