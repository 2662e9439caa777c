"""The fixed part of result.json's schema. Keys may be added to it; none of these may change."""

RUN_KEYS = {
    "method", "seed", "learning_rate", "bandwidth", "metric", "target", "reached", "time_to_target_s", "rounds",
    "rounds_to_target", "bytes_to_target", "joules_to_target", "best", "test", "trainable_parameters", "state_bytes",
    "bytes_down", "bytes_up", "curve", "devices", "config",
}  # fmt: skip
ADDED_RUN_KEYS = {
    "run_id", "state", "failure", "setup_s", "start_s", "evaluation_s", "downtime_s", "restarts", "wire", "setbacks",
    "control_bytes", "model_bytes", "model_notes", "shard_sizes", "energy_scope", "energy_coverage", "energy_note",
    "energy_is_replay", "evaluation", "data", "test_examples", "held_out", "better", "test_metrics", "copied_keys",
    "best_metrics", "cut", "data_digest", "skew",
}  # fmt: skip
"""Beside the fixed ones."""
POINT_KEYS = {"round", "elapsed_s", "value", "bytes_down", "bytes_up", "energy_j", "examples", "metrics"}
DEVICE_KEYS = {
    "name", "board", "power_source", "scope", "idle_w", "peak_w", "energy_j", "coverage", "largest_gap_s", "seconds",
    "joules", "step_ms",
}  # fmt: skip
ADDED_DEVICE_KEYS = {
    "power_detail", "interval_assumed", "above_idle_j", "setup", "rounds", "sensors", "trace", "facts", "updates",
    "micro_batch",
}  # fmt: skip
"""Beside the fixed ones."""
