<?php
// The sender: encrypts bodies as VCC Live does, and decrypts them as its sample receiver does. One case a line:
//
//   cipher TAB key TAB query TAB body TAB what openssl_decrypt makes of it, or - where it fails
//
// key, body and result in hexadecimal. See test_auth.c.
error_reporting(0);
mt_srand(20240215);

function random(int $length): string
{
    $bytes = '';
    while (strlen($bytes) < $length) {
        $bytes .= chr(mt_rand(0, 255));
    }
    return $bytes;
}

// A key is a line of a file: no NUL from an environment variable, no end of line.
function random_key(int $length): string
{
    $key = '';
    while (strlen($key) < $length) {
        $key .= chr(mt_rand(33, 255));
    }
    return $key;
}

function mangle(string $base64): array
{
    return [
        $base64,
        chunk_split($base64, 76, "\r\n"),
        rtrim($base64, '='),
        "\xef\xbb\xbf " . substr($base64, 0, 5) . "*-_\0=\n" . substr($base64, 5) . '==',
        substr($base64, 0, -5),
        substr($base64, 0, 7) . 'A' . substr($base64, 8),
        '',
    ];
}

function show(string $cipher, string $key, ?string $hex, string $body): void
{
    $plain = openssl_decrypt($body, $cipher, $key, 0, $hex === null ? '' : hex2bin($hex));
    echo implode("\t", [$cipher, bin2hex($key), $hex === null ? 'x=1' : "iv=$hex", bin2hex($body),
        $plain === false ? '-' : bin2hex($plain)]), "\n";
}

foreach (openssl_get_cipher_methods() as $cipher) {
    $size = openssl_cipher_iv_length($cipher);
    foreach ([1, 5, 8, 15, 16, 17, 24, 31, 32, 33, 56, 64, 100] as $length) {
        $key = random_key($length);
        $ivs = [null, '', bin2hex(random($size)), bin2hex(random(max(1, intdiv($size, 2)))), strtoupper(bin2hex(random($size + 5)))];
        foreach ($ivs as $iv) {
            $plain = random([0, 1, 15, 16, 17, 300][mt_rand(0, 5)]);
            $body = openssl_encrypt($plain, $cipher, $key, 0, $iv === null ? '' : hex2bin($iv));
            if ($body === false) {
                $body = base64_encode($plain);  // AEAD and the like: the cipher must be refused
            }
            foreach ($length === 16 ? mangle($body) : [$body] as $mangled) {
                show($cipher, $key, $iv, $mangled);
            }
        }
    }
}
