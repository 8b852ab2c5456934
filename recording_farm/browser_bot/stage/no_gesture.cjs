// Loaded into Playwright's driver before its own scripts. Playwright evaluates scripts in a page as if the user had just
// clicked there (`userGesture: true` of Runtime.callFunctionOn), without an option to change that. A page could then
// open windows and file choosers without a click. Real clicks and keys are gestures anyway.
"use strict";
const { stringify } = JSON;
JSON.stringify = (value, ...more) => {
  if (value?.params?.userGesture === true) {
    value = { ...value, params: { ...value.params, userGesture: false } };
  }
  return stringify(value, ...more);
};
