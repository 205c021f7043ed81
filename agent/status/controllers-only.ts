// The TCP listeners of the node's status, where the node has a certificate: TLS, and nobody but controllers, who ask for operators.
import { ServerInterceptingCall, type ServerInterceptor, status } from '@grpc/grpc-js';
import { CONTROLLER_NAME } from '../../api/access/names.js';
import { RotatingCredentials } from '../../api/access/rotating-credentials.js';
import type { Enrolment } from '../identity/enrolment.js';

const REFUSED = 'only controllers may ask here: weft status, with credentials, or this node’s own socket';

/** Follows the node's certificate. */
export function controllersOnly(enrolment: Enrolment): RotatingCredentials {
  const interceptor: ServerInterceptor = (_, call) =>
    new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, deliver) => {
            if (call.getAuthContext().sslPeerCertificate?.subjectaltname === `DNS:${CONTROLLER_NAME}`) deliver(metadata);
            else call.sendStatus({ code: status.PERMISSION_DENIED, details: REFUSED });
          },
        }),
    });
  const credentials = new RotatingCredentials(interceptor, true);
  enrolment.watch(() => credentials.present(enrolment.proof));
  return credentials;
}
