// For tests of the store layer: a reflector and all that it said.
import { systemClock } from '../../controller/clock.js';
import type { EtcdClient } from '../../controller/store/etcd-client.js';
import { type ChangeBatch, Reflector, type StoreState } from '../../controller/store/reflector.js';
import { Condition } from '../lab/condition.js';

/** Of the keys below /t/. */
export class StoreRecorder extends Condition {
  readonly batches: ChangeBatch[] = [];
  readonly states: StoreState[] = [];
  readonly reflector: Reflector;

  constructor(client: EtcdClient) {
    super();
    this.reflector = new Reflector(client, '/t/', systemClock, {
      onBatch: (batch) => {
        this.batches.push(batch);
        this.changed();
      },
      onState: (state) => {
        this.states.push(state);
        this.changed();
      },
    });
    this.reflector.start();
  }

  stop(): void {
    this.reflector.stop();
  }

  /** Without what was listed. */
  get changeCount(): number {
    return this.batches.filter(({ relisted }) => !relisted).reduce((sum, { changes }) => sum + changes.length, 0);
  }

  up(times = 1): Promise<void> {
    return this.until('etcd is up', () => this.states.filter(({ kind }) => kind === 'up').length >= times);
  }

  has(key: string): Promise<void> {
    return this.until(key, () => this.reflector.entries.has(`/t/${key}`));
  }
}
