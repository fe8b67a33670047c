export const PREWARM: readonly { mode: number; shapes: string }[] = [];
