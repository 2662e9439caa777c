from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Chunk(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: StreamHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[StreamHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class StreamHeader(_message.Message):
    __slots__ = ("size", "sha256", "update")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    size: int
    sha256: bytes
    update: UpdateHeader
    def __init__(self, size: _Optional[int] = ..., sha256: _Optional[bytes] = ..., update: _Optional[_Union[UpdateHeader, _Mapping]] = ...) -> None: ...

class UpdateHeader(_message.Message):
    __slots__ = ("run_id", "round", "client", "worker", "key", "examples", "loss", "step_ms", "micro_batch")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    STEP_MS_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    client: int
    worker: str
    key: str
    examples: int
    loss: float
    step_ms: _containers.RepeatedScalarFieldContainer[float]
    micro_batch: int
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., client: _Optional[int] = ..., worker: _Optional[str] = ..., key: _Optional[str] = ..., examples: _Optional[int] = ..., loss: _Optional[float] = ..., step_ms: _Optional[_Iterable[float]] = ..., micro_batch: _Optional[int] = ...) -> None: ...

class DownloadRequest(_message.Message):
    __slots__ = ("run_id", "sha256", "worker", "key", "offset")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    sha256: bytes
    worker: str
    key: str
    offset: int
    def __init__(self, run_id: _Optional[str] = ..., sha256: _Optional[bytes] = ..., worker: _Optional[str] = ..., key: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class GreetRequest(_message.Message):
    __slots__ = ("protocol",)
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    def __init__(self, protocol: _Optional[int] = ...) -> None: ...

class GreetReply(_message.Message):
    __slots__ = ("protocol", "versions", "unix_s")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    UNIX_S_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    versions: _containers.ScalarMap[str, str]
    unix_s: float
    def __init__(self, protocol: _Optional[int] = ..., versions: _Optional[_Mapping[str, str]] = ..., unix_s: _Optional[float] = ...) -> None: ...

class UploadReply(_message.Message):
    __slots__ = ("already_accepted",)
    ALREADY_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    already_accepted: bool
    def __init__(self, already_accepted: bool = ...) -> None: ...

class WorkerMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "prepared", "client_error", "activity", "telemetry", "released", "counters", "ping")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ERROR_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    prepared: Prepared
    client_error: ClientError
    activity: Activity
    telemetry: Telemetry
    released: Released
    counters: Counters
    ping: Ping
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., prepared: _Optional[_Union[Prepared, _Mapping]] = ..., client_error: _Optional[_Union[ClientError, _Mapping]] = ..., activity: _Optional[_Union[Activity, _Mapping]] = ..., telemetry: _Optional[_Union[Telemetry, _Mapping]] = ..., released: _Optional[_Union[Released, _Mapping]] = ..., counters: _Optional[_Union[Counters, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "name", "key", "versions", "device", "clients", "own_data", "process", "connection")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class DeviceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    OWN_DATA_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    name: str
    key: str
    versions: _containers.ScalarMap[str, str]
    device: _containers.ScalarMap[str, str]
    clients: _containers.RepeatedScalarFieldContainer[int]
    own_data: bool
    process: str
    connection: int
    def __init__(self, protocol: _Optional[int] = ..., name: _Optional[str] = ..., key: _Optional[str] = ..., versions: _Optional[_Mapping[str, str]] = ..., device: _Optional[_Mapping[str, str]] = ..., clients: _Optional[_Iterable[int]] = ..., own_data: bool = ..., process: _Optional[str] = ..., connection: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Prepared(_message.Message):
    __slots__ = ("run_id", "precision", "device", "examples", "power", "threads", "cut")
    class ExamplesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    class CutEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: CutRecords
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[CutRecords, _Mapping]] = ...) -> None: ...
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    precision: str
    device: str
    examples: _containers.ScalarMap[int, int]
    power: Power
    threads: int
    cut: _containers.MessageMap[int, CutRecords]
    def __init__(self, run_id: _Optional[str] = ..., precision: _Optional[str] = ..., device: _Optional[str] = ..., examples: _Optional[_Mapping[int, int]] = ..., power: _Optional[_Union[Power, _Mapping]] = ..., threads: _Optional[int] = ..., cut: _Optional[_Mapping[int, CutRecords]] = ...) -> None: ...

class CutRecords(_message.Message):
    __slots__ = ("records", "cut")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    records: int
    cut: int
    def __init__(self, records: _Optional[int] = ..., cut: _Optional[int] = ...) -> None: ...

class ClientError(_message.Message):
    __slots__ = ("run_id", "round", "client", "message", "bad_input", "passing")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BAD_INPUT_FIELD_NUMBER: _ClassVar[int]
    PASSING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    client: int
    message: str
    bad_input: bool
    passing: bool
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., client: _Optional[int] = ..., message: _Optional[str] = ..., bad_input: bool = ..., passing: bool = ...) -> None: ...

class Activity(_message.Message):
    __slots__ = ("run_id", "round", "client", "phase", "progress")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    client: int
    phase: str
    progress: float
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., client: _Optional[int] = ..., phase: _Optional[str] = ..., progress: _Optional[float] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("run_id", "epoch", "sequence", "phases", "samples", "rails", "sensors")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    RAILS_FIELD_NUMBER: _ClassVar[int]
    SENSORS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    epoch: int
    sequence: int
    phases: _containers.RepeatedCompositeFieldContainer[PhaseEnergy]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    rails: _containers.RepeatedScalarFieldContainer[str]
    sensors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run_id: _Optional[str] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., phases: _Optional[_Iterable[_Union[PhaseEnergy, _Mapping]]] = ..., samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., rails: _Optional[_Iterable[str]] = ..., sensors: _Optional[_Iterable[str]] = ...) -> None: ...

class PhaseEnergy(_message.Message):
    __slots__ = ("round", "client", "phase", "seconds", "joules", "covered_s", "largest_gap_s", "peak_mw")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOULES_FIELD_NUMBER: _ClassVar[int]
    COVERED_S_FIELD_NUMBER: _ClassVar[int]
    LARGEST_GAP_S_FIELD_NUMBER: _ClassVar[int]
    PEAK_MW_FIELD_NUMBER: _ClassVar[int]
    round: int
    client: int
    phase: str
    seconds: float
    joules: float
    covered_s: float
    largest_gap_s: float
    peak_mw: float
    def __init__(self, round: _Optional[int] = ..., client: _Optional[int] = ..., phase: _Optional[str] = ..., seconds: _Optional[float] = ..., joules: _Optional[float] = ..., covered_s: _Optional[float] = ..., largest_gap_s: _Optional[float] = ..., peak_mw: _Optional[float] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("at_s", "round", "client", "phase", "total_mw", "rails_mw", "gpu_load", "gpu_mhz", "temps_c", "throttled")
    AT_S_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MW_FIELD_NUMBER: _ClassVar[int]
    RAILS_MW_FIELD_NUMBER: _ClassVar[int]
    GPU_LOAD_FIELD_NUMBER: _ClassVar[int]
    GPU_MHZ_FIELD_NUMBER: _ClassVar[int]
    TEMPS_C_FIELD_NUMBER: _ClassVar[int]
    THROTTLED_FIELD_NUMBER: _ClassVar[int]
    at_s: float
    round: int
    client: int
    phase: str
    total_mw: float
    rails_mw: _containers.RepeatedScalarFieldContainer[float]
    gpu_load: float
    gpu_mhz: float
    temps_c: _containers.RepeatedScalarFieldContainer[float]
    throttled: bool
    def __init__(self, at_s: _Optional[float] = ..., round: _Optional[int] = ..., client: _Optional[int] = ..., phase: _Optional[str] = ..., total_mw: _Optional[float] = ..., rails_mw: _Optional[_Iterable[float]] = ..., gpu_load: _Optional[float] = ..., gpu_mhz: _Optional[float] = ..., temps_c: _Optional[_Iterable[float]] = ..., throttled: bool = ...) -> None: ...

class Power(_message.Message):
    __slots__ = ("source", "scope", "detail", "interval_s", "idle_w")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    IDLE_W_FIELD_NUMBER: _ClassVar[int]
    source: str
    scope: str
    detail: str
    interval_s: float
    idle_w: float
    def __init__(self, source: _Optional[str] = ..., scope: _Optional[str] = ..., detail: _Optional[str] = ..., interval_s: _Optional[float] = ..., idle_w: _Optional[float] = ...) -> None: ...

class Counters(_message.Message):
    __slots__ = ("run_id", "round", "part", "client", "counters")
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    part: str
    client: int
    counters: _containers.ScalarMap[str, float]
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., part: _Optional[str] = ..., client: _Optional[int] = ..., counters: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Released(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class CoordinatorMessage(_message.Message):
    __slots__ = ("welcome", "heartbeat", "prepare", "train", "release", "abandon", "wait", "evaluate", "ping")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PREPARE_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ABANDON_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    heartbeat: Heartbeat
    prepare: Prepare
    train: Train
    release: Release
    abandon: Abandon
    wait: Wait
    evaluate: Evaluate
    ping: Ping
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., prepare: _Optional[_Union[Prepare, _Mapping]] = ..., train: _Optional[_Union[Train, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., abandon: _Optional[_Union[Abandon, _Mapping]] = ..., wait: _Optional[_Union[Wait, _Mapping]] = ..., evaluate: _Optional[_Union[Evaluate, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("versions",)
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.ScalarMap[str, str]
    def __init__(self, versions: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Prepare(_message.Message):
    __slots__ = ("run_id", "experiment_json", "base_digest", "data_digest", "start_sha256", "shards", "model", "trial")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATA_DIGEST_FIELD_NUMBER: _ClassVar[int]
    START_SHA256_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    experiment_json: str
    base_digest: str
    data_digest: str
    start_sha256: bytes
    shards: _containers.RepeatedCompositeFieldContainer[Shard]
    model: _containers.RepeatedCompositeFieldContainer[ModelFile]
    trial: bool
    def __init__(self, run_id: _Optional[str] = ..., experiment_json: _Optional[str] = ..., base_digest: _Optional[str] = ..., data_digest: _Optional[str] = ..., start_sha256: _Optional[bytes] = ..., shards: _Optional[_Iterable[_Union[Shard, _Mapping]]] = ..., model: _Optional[_Iterable[_Union[ModelFile, _Mapping]]] = ..., trial: bool = ...) -> None: ...

class ModelFile(_message.Message):
    __slots__ = ("name", "size", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    sha256: bytes
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class Shard(_message.Message):
    __slots__ = ("client", "indices")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    client: int
    indices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, client: _Optional[int] = ..., indices: _Optional[_Iterable[int]] = ...) -> None: ...

class Train(_message.Message):
    __slots__ = ("run_id", "round", "state_sha256", "clients")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    state_sha256: bytes
    clients: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., state_sha256: _Optional[bytes] = ..., clients: _Optional[_Iterable[int]] = ...) -> None: ...

class Evaluate(_message.Message):
    __slots__ = ("run_id", "round", "state_sha256", "part", "clients")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    state_sha256: bytes
    part: str
    clients: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., state_sha256: _Optional[bytes] = ..., part: _Optional[str] = ..., clients: _Optional[_Iterable[int]] = ...) -> None: ...

class Abandon(_message.Message):
    __slots__ = ("run_id", "round", "clients", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    clients: _containers.RepeatedScalarFieldContainer[int]
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., clients: _Optional[_Iterable[int]] = ..., reason: _Optional[str] = ...) -> None: ...

class Wait(_message.Message):
    __slots__ = ("run_id", "round", "phase")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    phase: str
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., phase: _Optional[str] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("run_id", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("experiment_json", "protocol", "experiment_id")
    EXPERIMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    experiment_json: str
    protocol: int
    experiment_id: str
    def __init__(self, experiment_json: _Optional[str] = ..., protocol: _Optional[int] = ..., experiment_id: _Optional[str] = ...) -> None: ...

class SubmitReply(_message.Message):
    __slots__ = ("experiment_id",)
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    experiment_id: str
    def __init__(self, experiment_id: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("experiment_id",)
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    experiment_id: str
    def __init__(self, experiment_id: _Optional[str] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("experiment_id",)
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    experiment_id: str
    def __init__(self, experiment_id: _Optional[str] = ...) -> None: ...

class CancelReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("experiment_id", "path")
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    experiment_id: str
    path: str
    def __init__(self, experiment_id: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("experiment_id", "run", "run_number", "run_count", "workers", "over", "outcome", "files", "warnings")
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    RUN_NUMBER_FIELD_NUMBER: _ClassVar[int]
    RUN_COUNT_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    experiment_id: str
    run: RunProgress
    run_number: int
    run_count: int
    workers: _containers.RepeatedCompositeFieldContainer[WorkerProgress]
    over: bool
    outcome: Outcome
    files: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, experiment_id: _Optional[str] = ..., run: _Optional[_Union[RunProgress, _Mapping]] = ..., run_number: _Optional[int] = ..., run_count: _Optional[int] = ..., workers: _Optional[_Iterable[_Union[WorkerProgress, _Mapping]]] = ..., over: bool = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., files: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class RunProgress(_message.Message):
    __slots__ = ("method", "stage", "round", "rounds", "values", "target", "elapsed_s", "bytes_down", "bytes_up", "updates", "expected", "note", "elapsed_after_s", "bytes_after", "metric", "lower_is_better", "facts")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_S_FIELD_NUMBER: _ClassVar[int]
    BYTES_DOWN_FIELD_NUMBER: _ClassVar[int]
    BYTES_UP_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    BYTES_AFTER_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    LOWER_IS_BETTER_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    method: str
    stage: str
    round: int
    rounds: int
    values: _containers.RepeatedScalarFieldContainer[float]
    target: float
    elapsed_s: float
    bytes_down: int
    bytes_up: int
    updates: int
    expected: int
    note: str
    elapsed_after_s: _containers.RepeatedScalarFieldContainer[float]
    bytes_after: _containers.RepeatedScalarFieldContainer[int]
    metric: str
    lower_is_better: bool
    facts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, method: _Optional[str] = ..., stage: _Optional[str] = ..., round: _Optional[int] = ..., rounds: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ..., target: _Optional[float] = ..., elapsed_s: _Optional[float] = ..., bytes_down: _Optional[int] = ..., bytes_up: _Optional[int] = ..., updates: _Optional[int] = ..., expected: _Optional[int] = ..., note: _Optional[str] = ..., elapsed_after_s: _Optional[_Iterable[float]] = ..., bytes_after: _Optional[_Iterable[int]] = ..., metric: _Optional[str] = ..., lower_is_better: bool = ..., facts: _Optional[_Iterable[str]] = ...) -> None: ...

class WorkerProgress(_message.Message):
    __slots__ = ("name", "phase", "client", "progress", "device")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    phase: str
    client: int
    progress: float
    device: str
    def __init__(self, name: _Optional[str] = ..., phase: _Optional[str] = ..., client: _Optional[int] = ..., progress: _Optional[float] = ..., device: _Optional[str] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("exit_code", "message")
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    message: str
    def __init__(self, exit_code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...
