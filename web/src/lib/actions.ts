// What can be done to an experiment, with its question before and its note after; for the list and for its own page.
import { api } from "../api/client";
import type { Experiment, Job } from "../api/types";
import { dialogs } from "./dialogs.svelte";
import { live } from "./live.svelte";
import { attempt, success } from "./toasts.svelte";

export async function stop(e: Experiment): Promise<void> {
  const queued = e.status === "queued";
  const text = queued ? "It leaves the queue and can be queued again." : "It writes a checkpoint, then leaves. It can be resumed from there.";
  if (!(await dialogs.confirm({ title: `Stop “${e.name}”?`, text, action: "Stop" }))) return;
  await attempt(async () => live.takeExperiment(await api.post<Experiment>(`/experiments/${e.id}/stop`)));
}

export async function kill(e: Experiment): Promise<void> {
  const question = { title: `End “${e.name}” at once?`, text: "Work since its last checkpoint is lost. Prefer Stop unless it does not react.", action: "End it", danger: true };
  if (!(await dialogs.confirm(question))) return;
  await attempt(async () => live.takeExperiment(await api.post<Experiment>(`/experiments/${e.id}/kill`)));
}

export async function resume(e: Experiment): Promise<void> {
  await attempt(async () => {
    live.takeExperiment(await api.post<Experiment>(`/experiments/${e.id}/resume`));
    success("It goes on from its last checkpoint");
  });
}

export async function requeue(e: Experiment): Promise<void> {
  await attempt(async () => live.takeExperiment(await api.post<Experiment>(`/experiments/${e.id}/requeue`)));
}

export async function rename(e: Experiment): Promise<void> {
  const name = await dialogs.ask({ title: "Rename the experiment", text: "Its folder and results stay where they are.", action: "Rename", input: { label: "Name", value: e.name } });
  if (name && name !== e.name) await attempt(async () => live.takeExperiment(await api.patch<Experiment>(`/experiments/${e.id}`, { name })));
}

export async function remove(list: Experiment[]): Promise<boolean> {
  const one = list.length === 1 ? list[0] : undefined;
  const question = {
    title: one ? `Delete “${one.name}”?` : `Delete ${list.length} experiments?`,
    text: "Run folders, checkpoints and trained weights are removed from the disk. This cannot be undone.",
    action: "Delete",
    danger: true,
  };
  if (live.confirmDeletes && !(await dialogs.confirm(question))) return false;
  for (const e of list) {
    const done = await attempt(async () => {
      await api.delete(`/experiments/${e.id}`);
      live.forgetExperiment(e.id);
      return true;
    });
    if (!done) return false;
  }
  success(one ? "Experiment deleted" : `${list.length} experiments deleted`);
  return true;
}

export async function exportMerged(e: Experiment): Promise<boolean> {
  const done = await attempt(async () => {
    await live.finished(await api.post<Job>(`/experiments/${e.id}/export`, { kind: "merged" }));
    return true;
  });
  if (done) success("The merged model is written", "It is listed under Artifacts.");
  return done ?? false;
}
