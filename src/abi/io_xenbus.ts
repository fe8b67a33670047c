// XenbusState: the device handshake states.
// Source: <xen/io/xenbus.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XenbusStateUnknown = 0;

export const XenbusStateInitialising = 1;

export const XenbusStateInitWait = 2;

export const XenbusStateInitialised = 3;

export const XenbusStateConnected = 4;

export const XenbusStateClosing = 5;

export const XenbusStateClosed = 6;

export const XenbusStateReconfiguring = 7;

export const XenbusStateReconfigured = 8;
