/** `skos release`: ends what the rules hold, at once, and bars them from acting again for a while. */
import { type Command, textOption } from './command.js';
import { durationSeconds } from './duration.js';
import { EXIT } from './exit-codes.js';
import { plural } from './format.js';

export const release: Command = {
  name: 'release',
  summary: 'take back what is held, and bar its rule for a while',
  usage: ['release [RULE] [--for DURATION]'],
  details:
    'Without RULE everything is released. A barred rule goes on to watch and to alert but does not act. ' +
    'Standing orders of the actuator stay: they are what is left when everything else is wrong; `skos ' +
    'disarm` ends them.',
  options: { for: { type: 'string' } },
  optionHelp: { for: 'DURATION: how long the rule may not act (default 10m; 0: not barred)' },
  examples: [
    ['skos release', 'Take back every cap now.'],
    ['skos release thermal-cpu --for 1h', 'For one rule, and leave it be for an hour.'],
  ],

  async run({ values, positionals: [rule] }, { io, agent }) {
    const duration = textOption(values, 'for');
    const params = {
      ...(rule === undefined ? {} : { rule }),
      ...(duration === undefined ? {} : { forSeconds: durationSeconds(duration) }),
    };
    const { released, barred } = await (await agent()).request('release', params);
    io.out(`Released ${plural(released.length, 'action')}.`);
    for (const action of released) io.out(`  ${action}`);
    if (barred.length > 0) io.out(`Barred from acting for ${duration ?? '10m'}: ${barred.join(', ')}.`);
    return EXIT.ok;
  },
};
