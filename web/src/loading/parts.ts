/** The cards of the view by the id that a link finds them by, each with the causes that it explains. */
const CAUSES: Record<string, string[]> = {
  stages: [
    ...["input_bound", "no_workers", "slow_collate", "slow_sampler", "slow_pinning"],
    ...["many_objects", "large_payload", "busy_worker_transfer", "small_batches", "slow_handover"],
  ],
  fetch: [
    ...["cpu_bound_workers", "slow_storage", "blocked_workers"],
    ...["cpu_oversubscribed", "worker_threads", "other_processes"],
  ],
  samples: ["slow_samples"],
  startup: ["loader_restarts", "slow_worker_start", "slow_worker_init", "slow_dataset_setup", "slow_first_batch"],
  whatif: ["too_few_workers", "small_prefetch"],
};

/** The card that shows what a cause rests on, or the card of this name; what is wrong with tf.data, its pipeline. */
export function partOf(cause: string): string {
  const found = Object.entries(CAUSES).find(([part, causes]) => part === cause || causes.includes(cause));
  return found?.[0] ?? (/^tf_/.test(cause) ? "pipeline" : "stages");
}
