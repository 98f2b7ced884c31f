/** What an operator may call a GPU. */
import t from 'tap';
import { gpuNamed } from '../../src/core/gpu-names.js';

const gpu = (address: string, device = '', uuid?: string) => ({
  address,
  device,
  info: uuid === undefined ? {} : { uuid },
});
const GPUS = [
  gpu('0000:3b:00.0', 'gpu-ab12', 'GPU-Ab12'),
  gpu('0000:5e:00.0', 'gpu-ab123', 'GPU-Ab123'),
  gpu('0000:86:00.0'),
];

t.test(
  'takes an address, a device or a UUID in any case, whole ones first, or a beginning that fits one',
  async (t) => {
    for (const id of ['0000:3B:00.0', '0000:3b', 'gpu-ab12', 'GPU-AB12']) t.equal(gpuNamed(GPUS, id), GPUS[0], id);
    t.equal(gpuNamed(GPUS, '0000:86'), GPUS[2], 'one that was never served has an address only');
  },
);

t.test('refuses what fits none or several, and says which there are', async (t) => {
  const code = 'SKOS_GPU_UNKNOWN';
  t.throws(() => gpuNamed(GPUS, 'gpu-ab'), { code, message: /fits 0000:3b:00\.0 and 0000:5e:00\.0/ });
  t.throws(() => gpuNamed(GPUS, 'x'), { code, message: /no GPU "x"; known are 0000:3b/ });
  t.throws(() => gpuNamed(GPUS, ''), { code }, 'everything begins with nothing');
  t.throws(() => gpuNamed([], '0'), { code, message: /no GPU is known/ });
});
