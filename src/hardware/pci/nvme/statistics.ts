/** What the SMART log counts, from power-on. */
export class Statistics {
  bytesRead: number;
  bytesWritten: number;
  reads: number;
  writes: number;

  constructor() {
    this.bytesRead = 0;
    this.bytesWritten = 0;
    this.reads = 0;
    this.writes = 0;
  }

  countRead(bytes: number): void {
    this.reads++;
    this.bytesRead += bytes;
  }

  countWrite(bytes: number): void {
    this.writes++;
    this.bytesWritten += bytes;
  }
}
