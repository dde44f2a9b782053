// node_server.js ADDRESS PORT FOLDER [KEY CERTIFICATE]: files over HTTP, or HTTPS when there is a key. Small ones are read whole,
// others streamed, and another file is read all the time beside: its bytes must be its own and never leave.
'use strict';
const crypto = require('crypto'), fs = require('fs'), path = require('path');
const [address, port, folder, key, certificate] = process.argv.slice(2);

function answer(request, response) {
  const file = path.join(folder, path.basename(request.url));
  fs.stat(file, (error, stat) => {
    if (error) return response.writeHead(404).end();
    response.writeHead(200, {'Content-Length': stat.size});
    if (stat.size > 1 << 16) return fs.createReadStream(file).pipe(response);
    fs.readFile(file, (failure, bytes) => failure ? response.destroy(failure) : response.end(bytes));
  });
}

const server = key ? require('https').createServer({key: fs.readFileSync(key), cert: fs.readFileSync(certificate)}, answer)
                   : require('http').createServer(answer);
server.listen({host: address, port: Number(port), backlog: 511}, () => console.log('ready'));

// Opens and closes descriptors beside those of connections.
const beside = path.join(folder, 'beside');
const wanted = crypto.createHash('sha256').update(fs.readFileSync(beside)).digest('hex');
let reads = 0, stop = false;
(function readOn() {
  if (stop) return;
  fs.readFile(beside, (error, bytes) => {
    if (error || crypto.createHash('sha256').update(bytes).digest('hex') !== wanted) {
      console.log('beside: ' + (error || bytes.length + ' bytes that are not the file'));
      process.exit(1);
    }
    ++reads;
    setTimeout(readOn, 5);
  });
})();

process.on('SIGTERM', () => {
  stop = true;
  console.log('reads beside: ' + (reads > 10 ? 'many' : reads));
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
