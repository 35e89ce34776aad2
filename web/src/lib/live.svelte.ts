// What the whole app knows and keeps fresh by the server's event stream: machine, experiments, data sets, jobs, settings.
import { api, ApiError, apiUrl, setUnauthorizedHandler } from "../api/client";
import { EventStream, type Message } from "../api/sse";
import type { Dataset, Experiment, Job, Machine, MachineTick, Session, SettingsAnswer } from "../api/types";

class Live {
  session = $state<Session | null>(null);
  needsLogin = $state(false);
  /** The server has never been reached in this tab. */
  unreachable = $state(false);
  /** Lost for longer than a blink. */
  reconnecting = $state(false);
  machine = $state<Machine | null>(null);
  /** Shares of CPU use of the last two minutes, newest last. */
  cpuHistory = $state<number[]>([]);
  experiments = $state<Experiment[] | null>(null);
  datasets = $state<Dataset[] | null>(null);
  jobs = $state<Job[]>([]);
  settings = $state<Record<string, unknown>>({});
  private stream: EventStream | null = null;
  private bannerTimer: ReturnType<typeof setTimeout> | undefined;
  private waiting = new Map<string, (job: Job) => void>();
  private wasConnected = false;

  constructor() {
    setUnauthorizedHandler(() => this.loggedOut());
  }

  async start(): Promise<void> {
    try {
      this.session = await api.get<Session>("/session");
      this.unreachable = false;
    } catch (error) {
      this.unreachable = error instanceof ApiError && error.status === 0;
      if (!this.unreachable) this.unreachable = true;
      setTimeout(() => void this.start(), 1500);
      return;
    }
    if (this.session.password_required && !this.session.authenticated) {
      this.needsLogin = true;
      return;
    }
    this.needsLogin = false;
    this.connect();
    await this.refresh();
  }

  private loggedOut(): void {
    this.disconnect();
    this.needsLogin = true;
  }

  async refresh(): Promise<void> {
    const keep = async <T>(promise: Promise<T>, put: (value: T) => void) => {
      try {
        put(await promise);
      } catch {
        // The banner tells of a lost server; what is on the screen stays.
      }
    };
    await Promise.all([
      keep(api.get<Experiment[]>("/experiments"), (list) => (this.experiments = list)),
      keep(api.get<Dataset[]>("/datasets"), (list) => (this.datasets = list)),
      keep(api.get<Machine>("/machine"), (machine) => (this.machine = machine)),
      keep(api.get<Job[]>("/jobs"), (list) => this.takeJobs(list)),
      keep(api.get<SettingsAnswer>("/settings"), (answer) => (this.settings = answer.values)),
    ]);
  }

  async refreshDatasets(): Promise<void> {
    this.datasets = await api.get<Dataset[]>("/datasets");
  }
  async refreshExperiments(): Promise<void> {
    this.experiments = await api.get<Experiment[]>("/experiments");
  }

  private connect(): void {
    this.disconnect();
    this.stream = new EventStream({
      url: apiUrl("/events"),
      onMessage: (message) => this.take(message),
      onRefused: (status) => status === 401 && this.loggedOut(),
      onConnected: (connected) => {
        clearTimeout(this.bannerTimer);
        if (connected) {
          // What happened in between was missed, so everything is read again.
          if (this.wasConnected) void this.refresh();
          this.wasConnected = true;
          this.reconnecting = false;
        } else this.bannerTimer = setTimeout(() => (this.reconnecting = true), 700);
      },
    });
  }

  private disconnect(): void {
    this.stream?.close();
    this.stream = null;
    clearTimeout(this.bannerTimer);
  }

  private take(message: Message): void {
    let data: unknown;
    try {
      data = JSON.parse(message.data);
    } catch {
      return;
    }
    if (message.event === "machine") {
      const tick = data as MachineTick;
      if (this.machine) this.machine = { ...this.machine, load: tick.load, memory: tick.memory, disk: tick.disk };
      this.cpuHistory = [...this.cpuHistory.slice(-59), tick.load.cpu_share];
    } else if (message.event === "experiment") this.takeExperiment(data as Experiment);
    else if (message.event === "experiment_deleted") this.forgetExperiment((data as { id: string }).id);
    else if (message.event === "job") this.takeJobs([data as Job]);
    else if (message.event === "dataset") {
      const { id, change } = data as { id: string; change: string };
      if (change === "deleted") this.datasets = this.datasets?.filter((d) => d.id !== id) ?? null;
      else void this.refreshDatasets().catch(() => {});
    }
  }

  takeExperiment(one: Experiment): void {
    if (!this.experiments) return;
    if (this.experiments.some((e) => e.id === one.id))
      this.experiments = this.experiments.map((e) => (e.id === one.id ? { ...e, ...one } : e));
    else this.experiments = [one, ...this.experiments];
  }

  forgetExperiment(id: string): void {
    this.experiments = this.experiments?.filter((e) => e.id !== id) ?? null;
  }

  takeJobs(list: Job[]): void {
    const known = new Map(this.jobs.map((job) => [job.id, job]));
    for (const job of list) {
      known.set(job.id, job);
      if (job.state !== "running") {
        this.waiting.get(job.id)?.(job);
        this.waiting.delete(job.id);
      }
    }
    this.jobs = [...known.values()].sort((a, b) => b.started_unix_secs - a.started_unix_secs).slice(0, 60);
  }

  job(id: string | null): Job | undefined {
    return id === null ? undefined : this.jobs.find((job) => job.id === id);
  }

  /** Waits for a job's end, by the stream and, should that be away, by asking. Throws what made it fail. */
  async finished(job: Job): Promise<Job> {
    this.takeJobs([job]);
    let asking: ReturnType<typeof setInterval> | undefined;
    const end =
      job.state !== "running"
        ? job
        : await new Promise<Job>((resolve) => {
            this.waiting.set(job.id, resolve);
            asking = setInterval(() => {
              api.get<Job>(`/jobs/${job.id}`).then(
                (fresh) => this.takeJobs([fresh]),
                () => {},
              );
            }, 2000);
          });
    clearInterval(asking);
    if (end.state === "cancelled") throw new DOMException("cancelled", "AbortError");
    if (end.state === "failed") {
      throw new ApiError(500, "job_failed", end.error?.message ?? "The job failed.", end.error?.hint ?? null);
    }
    return end;
  }

  async cancel(id: string): Promise<void> {
    this.takeJobs([await api.post<Job>(`/jobs/${id}/cancel`)]);
  }

  /** Whether deleting asks first; it does unless switched off. */
  get confirmDeletes(): boolean {
    return this.settings.confirm_deletes !== false;
  }
}

export const live = new Live();
