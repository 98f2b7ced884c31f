/** Where a node's messages go: the embedded broker, or a broker that the site has. One interface, two implementations. */
import type { Message } from './topics.js';

export interface Bus {
  start(): Promise<void>;
  /** Delivers what is queued as far as readers take it, then closes. */
  stop(): Promise<void>;
  publish(message: Message): void;
  /** "127.0.0.1:1883", or the URL of the broker that was joined. */
  readonly address: string;
  /** Clients can reach it now. */
  readonly listening: boolean;
  readonly clients: number;
  /** Could anybody who is subscribed now receive sensor topics of this node? */
  sensorDemand(node: string): boolean;
}
