// node_client.js URL CONNECTIONS AT_A_TIME FILE...: fetches the files in turn, each on a connection of its own, and compares
// the bodies with the files, which it reads anew each time. Ends with one line: how many were right, or the first that was not.
'use strict';
const fs = require('fs'), path = require('path');
const [base, connections, atATime, ...files] = process.argv.slice(2);
const library = require(base.startsWith('https') ? 'https' : 'http');
let begun = 0, done = 0;

function fail(text) {
  console.log(text);
  process.exit(1);
}

function next() {
  if (begun === Number(connections)) {
    if (done === begun) console.log(done + ' right');
    return;
  }
  const number = begun++, file = files[number % files.length];
  const request = library.get(base + path.basename(file), {agent: false, rejectUnauthorized: false}, (response) => {
    const pieces = [];
    response.on('data', (piece) => pieces.push(piece));
    response.on('error', (error) => fail(`connection ${number}: ${error}`));
    response.on('end', () => fs.readFile(file, (error, wanted) => {
      const body = Buffer.concat(pieces);
      if (error || response.statusCode !== 200 || !body.equals(wanted))
        fail(`connection ${number}: ${error || response.statusCode}, ${body.length} bytes of ${wanted && wanted.length}`);
      ++done;
      next();
    }));
  });
  request.setTimeout(60000, () => fail(`connection ${number}: nothing for a minute`));
  request.on('error', (error) => fail(`connection ${number}: ${error}`));
}
for (let i = 0; i < Number(atATime); ++i) next();
