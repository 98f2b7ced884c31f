/** Where the agent's events go: the socket server's subscribers. Never blocks and costs nothing when nobody listens. */
import type { EventName, Events } from '../core/protocol.js';

export interface Outlet {
  broadcast<E extends EventName>(event: E, data: Events[E]): void;
}

/** Stands in for the server until that is made: the parts that speak are made before the part that carries. */
export class LaterOutlet implements Outlet {
  #outlet: Outlet | undefined;

  lead(outlet: Outlet): void {
    this.#outlet = outlet;
  }

  broadcast<E extends EventName>(event: E, data: Events[E]): void {
    this.#outlet?.broadcast(event, data);
  }
}
