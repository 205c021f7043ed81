// What others import of api/analyze.
export { analyze, analyzeBy, type Diagnosis, RULES, type RuleName } from './analyze.js';
export { type Code, SEVERITY_OF, type Severity } from './codes.js';
