// esbuild's synchronous calls each in a process of their own: one that serves them all from a thread beside this one is gone for ever once it
// is ended. Imported before esbuild, which looks when it is loaded.
process.env.ESBUILD_WORKER_THREADS = '0';
