// The boundary between TypeScript and the BPF loader: every function of the redirection that crosses.
// native/src/napi/capture_binding.cc defines the same functions in the same order.

// (owned by the capture work: fill in)
export interface CaptureAddon {}
