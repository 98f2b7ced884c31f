/** Which GPU an operator means: the agent and `skos gpu` must understand an ID alike. */
import { SkosError } from './errors.js';
import type { GpuView } from './ports.js';

/**
 * The one GPU with this PCI address, device segment or UUID, in any case; else the one that begins with it. Throws
 * SKOS_GPU_UNKNOWN when none or several fit.
 */
export function gpuNamed<G extends Pick<GpuView, 'address' | 'device' | 'info'>>(gpus: readonly G[], id: string): G {
  const wanted = id.toLowerCase();
  const names = ({ address, device, info }: G) =>
    [address, device, info.uuid ?? ''].map((name) => name.toLowerCase()).filter((name) => name !== '');
  const whole = gpus.filter((gpu) => names(gpu).includes(wanted));
  const found = whole.length > 0 ? whole : gpus.filter((gpu) => names(gpu).some((name) => name.startsWith(wanted)));
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  const fitting = found.map(({ address }) => address).join(' and ');
  const known = gpus.map(({ address }) => address).join(', ');
  const why = found.length > 1 ? `"${id}" fits ${fitting}` : `there is no GPU "${id}"`;
  throw new SkosError('SKOS_GPU_UNKNOWN', `${why}; ${known === '' ? 'no GPU is known' : `known are ${known}`}`);
}
