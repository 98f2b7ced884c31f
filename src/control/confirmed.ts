/** What is not meant for another node is asked for with this node's name, so that a script for another does not do it. */
import { SkosError } from '../core/errors.js';

/** SKOS_CLI_NAME when it is not the node's name. */
export function mustConfirm(node: string, confirm: string): void {
  if (confirm !== node) throw new SkosError('SKOS_CLI_NAME', `this node is ${node}, not "${confirm}"`);
}
