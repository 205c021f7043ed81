import { conformance } from './suite.js';

conformance('9112-');
