/** What the numbers of GPU drivers mean, in words. Bits and codes that are not known stay numbers. */

/**
 * NVML's clock event reasons. Idle is one of them and no throttling; it is told apart.
 * Source: NVIDIA/go-nvml, nvml.h (nvmlClocksEventReason…, nvmlClocksThrottleReason…).
 */
const NVML_REASONS: readonly (readonly [bit: number, words: string])[] = [
  [1, 'application clocks setting'],
  [2, 'software power cap'],
  [3, 'hardware slowdown'],
  [4, 'sync boost'],
  [5, 'software thermal slowdown'],
  [6, 'hardware thermal slowdown'],
  [7, 'hardware power brake'],
  [8, 'display clock setting'],
];
const NVML_IDLE_BIT = 0;

/**
 * amdgpu's indep_throttle_status, whose bits are the same for every chip since gpu_metrics 1.3 and 2.2.
 * Source: Linux, drivers/gpu/drm/amd/pm/swsmu/inc/amdgpu_smu.h (SMU_THROTTLER_…_BIT).
 */
const AMDGPU_REASONS: readonly (readonly [bit: number, words: string])[] = [
  [0, 'package power limit'],
  [1, 'package power limit 1'],
  [2, 'package power limit 2'],
  [3, 'package power limit 3'],
  [4, 'sustained power limit'],
  [5, 'fast power limit'],
  [6, 'slow power limit'],
  [7, 'slow APU power limit'],
  [16, 'graphics current'],
  [17, 'SoC current'],
  [18, 'memory current'],
  [19, 'core current'],
  [20, 'CVIP current'],
  [21, 'CPU peak current'],
  [22, 'graphics peak current'],
  [23, 'peak current control'],
  [32, 'GPU temperature'],
  [33, 'core temperature'],
  [34, 'memory temperature'],
  [35, 'edge temperature'],
  [36, 'hot spot temperature'],
  [37, 'SoC temperature'],
  [38, 'graphics regulator temperature'],
  [39, 'SoC regulator temperature'],
  [40, 'memory regulator temperature'],
  [41, 'memory regulator 1 temperature'],
  [42, 'liquid temperature'],
  [43, 'liquid 1 temperature'],
  [44, 'regulator too hot'],
  [45, 'regulator 1 too hot'],
  [46, 'CPU hot signal'],
  [47, 'GPU hot signal'],
];

export interface ReasonWords {
  readonly isIdle: boolean;
  readonly reasons: readonly string[];
}

/** `source` as in a GPU's view. Bits without a meaning come last, as one hexadecimal number. */
export function throttleReasons(mask: number, source: string): ReasonWords {
  // More than 32 bits: the operators of numbers would cut them.
  let rest = BigInt(Math.trunc(mask));
  const take = (bit: number): boolean => {
    const isSet = ((rest >> BigInt(bit)) & 1n) === 1n;
    rest &= ~(1n << BigInt(bit));
    return isSet;
  };
  const isIdle = source === 'nvml' && take(NVML_IDLE_BIT);
  const known = source === 'nvml' ? NVML_REASONS : source === 'amdgpu' ? AMDGPU_REASONS : [];
  const reasons = known.filter(([bit]) => take(bit)).map(([, words]) => words);
  return { isIdle, reasons: rest === 0n ? reasons : [...reasons, `0x${rest.toString(16)}`] };
}

/** Field 230 of NVML. Source: NVIDIA/go-nvml, nvml.h (nvmlGpuRecoveryAction_t). */
const RECOVERY_ACTIONS: Readonly<Record<number, string>> = {
  1: 'reset the GPU',
  2: 'reboot the node',
  3: 'end what uses peer-to-peer',
  4: 'drain the GPU, then reset it',
  5: 'recover the IMEX domain',
};

/** What the driver asks for; undefined: nothing. */
export function recoveryAction(code: number): string | undefined {
  return code === 0 ? undefined : (RECOVERY_ACTIONS[code] ?? `action ${code}, which this version does not know`);
}

/** How this vendor's GPU is reset. Sources: nvidia-smi(1); AMD SMI's command line reference. */
export function resetCommand({ source, address }: { readonly source: string; readonly address: string }): string {
  return source === 'nvml' ? `nvidia-smi --gpu-reset -i ${address}` : `amd-smi reset --gpureset -g ${address}`;
}
