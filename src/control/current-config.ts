/** The configuration in force. Reload replaces it as a whole; who needs it asks each time and keeps no copy. */
import type { Config } from '../config/schema.js';

export class CurrentConfig {
  #config: Config;

  constructor(config: Config) {
    this.#config = config;
  }

  get(): Config {
    return this.#config;
  }

  replace(config: Config): void {
    this.#config = config;
  }
}
