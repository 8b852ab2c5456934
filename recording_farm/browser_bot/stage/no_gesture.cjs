// Loaded into Playwright's driver before its own scripts. Playwright sends each of its questions to a page as if the
// user had just clicked there (`userGesture: true` of Runtime.callFunctionOn), and has no option for it. A page that
// nobody has clicked on may then open windows and file choosers. Clicks and keys are gestures by themselves.
"use strict";
const { stringify } = JSON;
JSON.stringify = (value, ...more) => {
  if (value?.params?.userGesture === true) {
    value = { ...value, params: { ...value.params, userGesture: false } };
  }
  return stringify(value, ...more);
};
