/**
 * One error class, one ledger of codes. A code is never reused for another meaning; each carries the operator's next
 * step. `skos explain CODE` and the table in README.md come from here; tests assert codes, never text.
 */
export const ERRORS = {
  SKOS_CONFIG_SYNTAX: {
    meaning: 'The configuration file is not valid YAML.',
    next: 'Mend the line that the message names, then run `skos config check`.',
  },
  SKOS_CONFIG_INVALID: {
    meaning: 'A configuration value is unknown, missing or out of range. Nothing was changed.',
    next: 'Mend each line that the message names, then run `skos config check`.',
  },
  SKOS_CONFIG_UNREADABLE: {
    meaning: 'A configuration file exists but cannot be read.',
    next: 'Check owner and mode of the file; the agent needs to read it.',
  },
  SKOS_ADDON_LOAD: {
    meaning: 'The native addon is missing or does not fit this machine.',
    next: 'Build it with `npm run build:native`; installed, reinstall the package for this architecture.',
  },
  SKOS_ADDON_WORKER: {
    meaning: 'The native addon was loaded in a worker thread; its sampler threads belong to the main thread.',
    next: 'Load the addon in the main thread only.',
  },
  SKOS_SAMPLER_SPEC: {
    meaning: 'The sampler was given a channel or tripwire that it cannot take.',
    next: 'This is a programming error; report it with the message.',
  },
  SKOS_SAMPLER_STATE: {
    meaning: 'The sampler was used in a state that does not allow it (started twice, read after stop).',
    next: 'This is a programming error; report it with the message.',
  },
  SKOS_SAMPLER_START: {
    meaning: 'The system refused the sampler its threads or its timer.',
    next: 'Look at the limits of threads and memory (TasksMax, ulimit -u), then start the agent again.',
  },
  SKOS_SENSORS_CONF: {
    meaning: "A line of lm-sensors' configuration could not be understood and was ignored.",
    next: 'Mend the line, or ignore this if the chip is not yours.',
  },
  SKOS_STORE_OPEN: {
    meaning: 'The database could not be opened. Protection goes on; the record is kept in memory only.',
    next: 'Check that data_dir is writable, has space, and that no other agent uses it.',
  },
  SKOS_STORE_LOCKED: {
    meaning: 'Another process holds the database of this data_dir.',
    next: 'Stop the other agent, or give this one a data_dir of its own.',
  },
  SKOS_STORE_WRITE: {
    meaning: 'A write to the database failed. Protection goes on; recent records are kept in memory and retried.',
    next: 'Check disk space and health of data_dir.',
  },
  SKOS_STORE_READ: {
    meaning: 'A part of the database cannot be read. Protection goes on; what was asked for is not shown.',
    next: 'Check the disk of data_dir (`journalctl -k`) and keep a copy of data_dir.',
  },
  SKOS_STORE_VERSION: {
    meaning: 'The database was written by a newer version.',
    next: 'Install that version again, or set the data_dir aside.',
  },
  SKOS_STORE_MIGRATION: {
    meaning:
      'The database of an earlier version was not brought to the present format, most often because there was no space for its backup. It is as it was. Protection goes on; the record is kept in memory only.',
    next: 'Make space below data_dir, as much as the message says, or mend its disk; then restart the agent.',
  },
  SKOS_BACKUP_BUSY: {
    meaning: 'Another backup is being taken, or another restore runs.',
    next: 'Wait until it is done; one that was abandoned ends by itself within a minute.',
  },
  SKOS_BACKUP_ENDED: {
    meaning: 'The backup was ended before it was whole: it took too long, or the database was opened anew.',
    next: 'Take it again, to a faster place if it took too long.',
  },
  SKOS_BACKUP_EXISTS: {
    meaning: 'The file is there already. Nothing was written.',
    next: 'Name another file, or give --force to replace it.',
  },
  SKOS_BACKUP_SPACE: {
    meaning: 'There is not enough space. What was written of it is removed again.',
    next: 'Make as much space as the message says, or choose another place.',
  },
  SKOS_BACKUP_WRITE: {
    meaning: 'The backup, or what is restored from it, could not be written. What was written of it is removed again.',
    next: 'Check the directory that the message names: that it is there, who may write to it, and its disk.',
  },
  SKOS_BACKUP_READ: {
    meaning: 'The file of the backup cannot be read.',
    next: 'Check its name, and that you may read it.',
  },
  SKOS_BACKUP_DAMAGED: {
    meaning:
      'The file is not a whole backup: it was changed, cut off or added to, or it never was one. Nothing was changed.',
    next: 'Take another copy of it, or an older backup; `skos backup --verify FILE` checks one.',
  },
  SKOS_BACKUP_VERSION: {
    meaning: 'The backup was made by a newer version. Nothing was changed.',
    next: 'Install that version, then restore.',
  },
  SKOS_BACKUP_KEYS: {
    meaning: 'The keys of the audit chain could not be read. No backup was made.',
    next: 'Run it as root, or without --with-keys.',
  },
  SKOS_RESTORE_RUNNING: {
    meaning: 'An agent, or another restore, has the database open. Nothing was changed.',
    next: 'Stop the agent (`systemctl stop skos-agent`), restore, then start it again.',
  },
  SKOS_RESTORE_NODE: {
    meaning: 'The backup is of another node. Nothing was changed.',
    next: "If it shall become this node's record, say so: --from-node NAME.",
  },
  SKOS_RESTORE_DENIED: {
    meaning: 'Only root or the owner of data_dir may replace the database. Nothing was changed.',
    next: 'Run it as root.',
  },
  SKOS_AUDIT_BROKEN: {
    meaning: 'The audit chain does not verify: an entry was changed, removed, inserted or reordered.',
    next: 'Keep a copy of data_dir as evidence; compare the heads in the journal (SKOS_AUDIT_HEAD) and on the peers.',
  },
  SKOS_AUDIT_KEY: {
    meaning: 'A key of the audit chain is lost, damaged, open to others or cannot be made. The chain goes on.',
    next: 'Check owner and mode of the keys below data_dir; after a key was open to others: `skos audit rotate-key`.',
  },
  SKOS_AUDIT_FILE: {
    meaning: 'A file of the audit record cannot be read, or not be written. Nothing is left of one that is not whole.',
    next: 'Check the path that the message names, and that you may use it.',
  },
  SKOS_AUDIT_UNKNOWN: {
    meaning: 'The audit record has no such entry, or no longer.',
    next: 'See which there are: `skos audit list`.',
  },
  SKOS_AGENT_INTERNAL: {
    meaning: 'The agent failed at what it was asked. Protection goes on.',
    next: 'This is a mistake in the agent: report it with the message and the log lines around it.',
  },
  SKOS_SOCKET_BUSY: {
    meaning: 'Another agent answers on the socket.',
    next: 'Stop the other agent, or set SKOS_RUN_DIR or data_dir to a place of its own.',
  },
  SKOS_SOCKET_UNAVAILABLE: {
    meaning: 'No agent answers on the socket.',
    next: 'Start the agent (`skos run`, or `systemctl start skos-agent`), or check SKOS_RUN_DIR.',
  },
  SKOS_SOCKET_DENIED: {
    meaning: 'The caller may not use this verb: the socket admits root and members of the group skos-admin.',
    next: 'Run as root, or add the user to the group skos-admin.',
  },
  SKOS_SOCKET_DEADLINE: {
    meaning: 'The agent did not answer in time.',
    next: 'See whether the agent runs and what it logs (`journalctl -u skos-agent`); then ask again.',
  },
  SKOS_SOCKET_FULL: {
    meaning: 'Too many clients are connected to the agent.',
    next: 'End forgotten `skos … --watch` commands, then try again.',
  },
  SKOS_SOCKET_FLOOD: {
    meaning:
      'skos-net asked the agent for more than it has time for, and was disconnected; protection is not affected.',
    next: 'Nothing, unless it repeats: then look for who floods the MQTT broker, or restart skos-net.',
  },
  SKOS_SOCKET_LISTEN: {
    meaning: 'The socket of the agent could not be made.',
    next: 'Check owner and mode of its directory, and that the path is shorter than 100 characters.',
  },
  SKOS_PROTOCOL_INVALID: {
    meaning: 'A message on the agent socket was malformed, too large or of an unknown kind.',
    next: 'Use the CLI of the same version as the agent.',
  },
  SKOS_PROTOCOL_OVERFLOW: {
    meaning: 'A client did not read fast enough and was disconnected; it reconnects and asks for the current state.',
    next: 'Nothing, unless it repeats: then look for a stuck client.',
  },
  SKOS_UNITS_ABSENT: {
    meaning:
      'skos-units cannot be started or ended: no systemd unit can be moved and no job run. Everything else is protected as before.',
    next: 'Build it (`npm run build`), or look at what it said last; installed, start skos-units.socket.',
  },
  SKOS_GPU_ABSENT: {
    meaning: 'skos-gpu is not reachable: no GPU is read. Everything else is protected as before.',
    next: 'Start skos-gpu.service; `skos doctor` says what is missing.',
  },
  SKOS_GPU_UNKNOWN: {
    meaning: 'No GPU has this address, device name or UUID, or several begin with it.',
    next: 'Take one that `skos gpu` lists.',
  },
  SKOS_GPU_REFUSED: {
    meaning: 'skos-gpu could not do what it was asked for; the message says why.',
    next: 'See `skos gpu`; a worker that hangs in its driver lets go only when the driver answers.',
  },
  SKOS_GPU_PROTOCOL: {
    meaning: 'skos-gpu sent something that the agent does not understand.',
    next: 'Install agent and skos-gpu of the same version.',
  },
  SKOS_ACTUATOR_ABSENT: {
    meaning: 'No actuator is reachable: nothing can be throttled. The agent observes and alerts.',
    next: 'Start skos-actuator.service, or run as root so that the agent may start its own.',
  },
  SKOS_ACTUATOR_BUSY: {
    meaning: 'The actuator is already controlled by another agent, or another actuator holds the lock.',
    next: 'Stop the other agent; one actuator serves one sysfs root.',
  },
  SKOS_ACTUATOR_DENIED: {
    meaning: 'The actuator refused: the target is not in the allow-list or the value is outside its bounds.',
    next: 'Compile the allow-list from the configuration with `skos config compile`, as root.',
  },
  SKOS_ACTUATOR_PROTOCOL: {
    meaning: 'The actuator sent something that the agent does not understand.',
    next: 'Install agent and actuator of the same version.',
  },
  SKOS_ACTUATOR_ALLOW: {
    meaning: 'The allow-list is missing, malformed, or root does not own it alone.',
    next: 'Run `skos config compile` as root; the file must belong to root with mode 0644.',
  },
  SKOS_ACTUATOR_SENSORS: {
    meaning: 'Sensors that standing orders watch could not be looked for. The allow-list stays as it is.',
    next: 'See `skos doctor`, and `journalctl -k` for a driver that hangs; run `skos config compile` again when the machine is less busy.',
  },
  SKOS_ACTUATOR_FAILED: {
    meaning: 'The kernel did not take the value, or reads back weaker than asked.',
    next: 'See the action with `skos actions`; another controller may own the target.',
  },
  SKOS_WORKLOAD_UNKNOWN: {
    meaning: 'The configuration names no such workload.',
    next: 'Look at `skos workload list`; add others under `workloads`, then `skos config compile`.',
  },
  SKOS_REPAIR_FAILED: {
    meaning:
      'What a rule had run ended badly, took too long, or was not begun because its intent could not be recorded.',
    next: 'See `skos actions` for the job, and `journalctl -u` for its unit. `skos breaker list` says when it is tried again.',
  },
  SKOS_REPAIR_UNHELPFUL: {
    meaning: 'What a rule had run ended well, and its condition stands all the same.',
    next: 'Look for another cause. `skos breaker list` says when it is tried again.',
  },
  SKOS_ACT_PLAN: {
    meaning: 'The plan of a program that deletes or archives is missing, malformed, or root does not own it alone.',
    next: 'Run `skos config compile` as root; the files below /etc/skos/act must belong to root with mode 0644.',
  },
  SKOS_ACT_PLACE: {
    meaning:
      'A directory that storage.cleanup names is missing, is reached over a link, or a link could be put into its path. It was left alone.',
    next: 'Name it as the message says, or make the directories above it root’s alone; then `skos config compile`.',
  },
  SKOS_ACT_TOO_MANY: {
    meaning: 'A directory of storage.cleanup holds more than can be listed before it is deleted. It was left alone.',
    next: 'Clean it once by hand, or name its subdirectories instead.',
  },
  SKOS_ACT_CLOCK: {
    meaning: 'The clock was set while files were judged by their age. Nothing was deleted.',
    next: 'See why the clock moves (`timedatectl`); the next run begins anew.',
  },
  SKOS_ACT_PROGRAM: {
    meaning: 'A program that deletes or rotates (systemd-tmpfiles, journalctl, logrotate) is missing or failed.',
    next: 'See the journal of the unit; install what is missing.',
  },
  SKOS_ACT_FULL: {
    meaning: 'The archive has no room for more. What is not in it stays where it was.',
    next: 'Make room below storage.cleanup.archive_to, or name a larger disk.',
  },
  SKOS_NET_LISTEN: {
    meaning: 'The MQTT port is taken or may not be opened. It is tried again; protection goes on.',
    next: 'Free the port (`ss -ltnp`), or choose another with mqtt.listen.',
  },
  SKOS_NET_CHILD: {
    meaning: 'skos-net ended or exceeded its memory limit and is restarted. Protection goes on.',
    next: 'Nothing, unless it repeats: then look at its log and at who floods the broker.',
  },
  SKOS_NET_CLIENT: {
    meaning: 'An MQTT client broke a limit or a rule of the broker and was disconnected.',
    next: 'Nothing, unless it repeats: then see which local program it is (`ss -tnp`).',
  },
  SKOS_NET_PAYLOAD: {
    meaning: 'An MQTT payload was malformed or too large and was dropped.',
    next: 'If it came from a peer, install the same version there; otherwise report it with the message.',
  },
  SKOS_MESH_LINK: {
    meaning: 'The connection to a peer could not be made or was lost. It is tried again.',
    next: 'Check that the peer runs, its mesh.listen, the route to it, and the certificates of both.',
  },
  SKOS_MESH_TLS: {
    meaning: 'A certificate or key of the mesh cannot be read or does not fit.',
    next: 'Check the files named by mesh.tls and mesh.peers.',
  },
  SKOS_ACT_ARGUMENT: {
    meaning: 'The unit of an act was started with a name that the configuration does not have. Nothing was changed.',
    next: 'Run `skos config compile` as root, so that the allow-list names what the configuration has.',
  },
  SKOS_ACT_REFUSED: {
    meaning: 'An act was not carried out: a file that it needs is missing, unsafe or wrong. Nothing was changed.',
    next: 'Mend what the message names; `journalctl -u "skos-act-*"` shows every attempt.',
  },
  SKOS_TOKEN_DENIED: {
    meaning: 'A user name and token over MQTT are not known, were revoked, or are of a role that may not do this.',
    next: 'See `skos token list`; `skos token add NAME --role ROLE` makes a new one.',
  },
  SKOS_TOKEN_EXISTS: {
    meaning: 'There is a token of that name already, or an antibody of SKOS has that name, or there are too many.',
    next: 'Choose another name, or revoke the former: `skos token revoke NAME`.',
  },
  SKOS_TOKEN_UNKNOWN: {
    meaning: 'There is no token of that name.',
    next: 'See which there are: `skos token list`.',
  },
  SKOS_COMMAND_REFUSED: {
    meaning: 'A command over MQTT was not followed: it is stale, repeated, for another boot or not allowed.',
    next: 'Send it again with the boot_id of `skos/peer/<node>`, a new nonce and the present time.',
  },
  SKOS_CHAIN_UNKNOWN: {
    meaning: 'No chain of that id is held, or too many are held to hold one more.',
    next: 'See which are: `skos chain list`.',
  },
  SKOS_ANTIBODY_UNKNOWN: {
    meaning: 'No external antibody of that name has registered.',
    next: 'See which have: `skos antibody list`; each registers with its first heartbeat.',
  },
  SKOS_ANTIBODY_CONTRACT: {
    meaning: 'An external antibody does not keep the contract: it did not beat, alert, clear or answer in time.',
    next: 'Mend what the message names; src/antibodies/EXTERNAL.md is the contract.',
  },
  SKOS_RULE_UNKNOWN: {
    meaning: 'There is no rule of that name.',
    next: 'Name a rule as `skos alerts` and `skos actions` show it, or none for all.',
  },
  SKOS_APPROVAL_UNKNOWN: {
    meaning: 'No action of that id is proposed, or it cannot be done.',
    next: 'Run `skos approve`, which lists what is proposed now; a proposal ends with its danger.',
  },
  SKOS_APPROVAL_STALE: {
    meaning: 'What was shown before the question is too old, or would no longer be what happens. Nothing was done.',
    next: 'Run `skos approve` again and read what it shows.',
  },
  SKOS_BREAKER_UNKNOWN: {
    meaning: 'There is no circuit breaker of that name.',
    next: 'Name one as `skos breaker list` shows it; an action that never failed has none.',
  },
  SKOS_SILENCE_UNKNOWN: {
    meaning: 'There is no silence of that id.',
    next: 'Name one as `skos silence list` shows it; a silence ends by itself.',
  },
  SKOS_SILENCE_LIMIT: {
    meaning: 'As many silences stand as there may be.',
    next: 'End some (`skos silence list`), or take one pattern for several, such as "hwmon/**".',
  },
  SKOS_RECORDING_UNKNOWN: {
    meaning: 'There is no flight recording of that alert.',
    next: 'Name an alert as `skos recorder list` shows it; old recordings give way to new ones.',
  },
  SKOS_HISTORY_UNKNOWN: {
    meaning: 'Nothing was ever stored of such a channel.',
    next: 'Name a channel, or a glob, as `skos history` lists them.',
  },
  SKOS_HISTORY_MIXED: {
    meaning:
      'Of a part of this time single samples are no longer kept, only seconds or minutes: a table of samples has no columns for them.',
    next: 'Ask for a later time, or with --points N.',
  },
  SKOS_REPLAY_CSV: {
    meaning: 'The file is not a history as `skos history --csv` writes it, or it cannot be read.',
    next: 'Mend what the message names, or write the file again.',
  },
  SKOS_REPLAY_NOTHING: {
    meaning:
      'Of that time nothing is there that a rule watches: it says neither that all was well nor that it was not.',
    next: 'See `skos history` for what is stored; ask for another time.',
  },
  SKOS_CLI_USAGE: {
    meaning: 'The command line was not understood.',
    next: 'See `skos --help`.',
  },
  SKOS_CLI_ROOT: {
    meaning: 'This command changes what may be moved on this machine and needs root.',
    next: 'Run it again as root.',
  },
  SKOS_CLI_NAME: {
    meaning: 'The confirmation did not match. Nothing was changed.',
    next: 'Type the name that is asked for.',
  },
  SKOS_CLI_INTERRUPTED: {
    meaning: 'The command was interrupted and has cleaned up behind itself.',
    next: 'Nothing; run it again when you want it done.',
  },
  SKOS_STARTUP_DEADLINE: {
    meaning: 'A part did not start in its time; those before it were stopped again.',
    next: 'Look at the log lines before it: a disk or a driver may hang.',
  },
  SKOS_SHUTDOWN_DEADLINE: {
    meaning: 'A part did not stop in its time and was left behind.',
    next: 'Report it with the log lines before it.',
  },
} as const satisfies Record<string, { meaning: string; next: string }>;

export type ErrorCode = keyof typeof ERRORS;

export class SkosError extends Error {
  override readonly name = 'SkosError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  /** What the operator can do about it. */
  get next(): string {
    return ERRORS[this.code].next;
  }
}

/** The name that the system, or a library, gives an error: ENOENT, LEVEL_LOCKED. '' where it has none. */
export function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** Whatever was thrown, as text for a message or a log field. */
export function reason(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
