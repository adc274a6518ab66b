import fs from 'node:fs';
import path from 'node:path';

/** Where execvp(3) finds it; null: nowhere. */
export function findProgram(command: string, env: NodeJS.ProcessEnv, cwd = process.cwd()): string | null {
  const folders = command.includes('/') ? [''] : (env.PATH ?? '/bin:/usr/bin').split(':');
  for (const folder of folders) {
    const file = path.resolve(cwd, folder, command);
    try {
      fs.accessSync(file, fs.constants.X_OK);
      if (fs.statSync(file).isFile()) return file;
    } catch {
      // In one of the other folders, perhaps.
    }
  }
  return null;
}
